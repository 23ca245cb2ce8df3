"""Helpers for the tests of a project.

:func:`capture_tasks` collects messages instead of sending them, and needs no broker, no result backend and no cache.
:func:`capture_invocations` only watches, while tasks are sent or run eagerly. Calls on commit need a transaction that
commits: use ``TestCase.captureOnCommitCallbacks(execute=True)``, pytest-django's
``django_capture_on_commit_callbacks``, or a ``TransactionTestCase``. There are pytest fixtures as well
(:mod:`django_celery_extensions.pytest_plugin`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import signature
from celery.utils import uuid
from django.core.cache.backends.locmem import LocMemCache

from django_celery_extensions import diversion, signals
from django_celery_extensions.config import settings
from django_celery_extensions.dispatch import sending
from django_celery_extensions.keys import body_signature, unique_name
from django_celery_extensions.stores import claim_store, kept_in
from django_celery_extensions.validation import check_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery.app.task import Task
    from celery.result import EagerResult

    from django_celery_extensions.invocation import Outcome
    from django_celery_extensions.results import InvocationResult
    from django_celery_extensions.task import DjangoTask

__all__ = [
    "CapturedInvocation",
    "Outbox",
    "SentTask",
    "capture_invocations",
    "capture_tasks",
    "forget_claim",
    "isolated_claims",
]


@dataclass(frozen=True, kw_only=True)
class CapturedInvocation:
    """One call: the name of the task, the arguments, the options and the result."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    result: InvocationResult

    @property
    def outcome(self) -> Outcome:
        """How the call ended; WAITING before its transaction commits, and for ever after a rollback."""
        return self.result.outcome


@contextmanager
def capture_invocations(*tasks: DjangoTask) -> Iterator[list[CapturedInvocation]]:
    """Collect the calls of these tasks, in order; of every ``DjangoTask`` if none is named.

    ::

        with capture_invocations(send_mail) as calls, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/orders/")
        assert [call.args for call in calls] == [(order.pk,)]
        assert calls[0].outcome == "triggered"
    """
    names = {task.name for task in tasks}
    calls: list[CapturedInvocation] = []

    def note(task: DjangoTask, args: Any, kwargs: Any, options: Any, result: Any, **_: Any) -> None:
        if not names or task.name in names:
            call = CapturedInvocation(
                task=task.name, args=args, kwargs=kwargs, options=options, result=result
            )
            calls.append(call)

    signals.invocation_applied.connect(note)
    try:
        yield calls
    finally:
        signals.invocation_applied.disconnect(note)


class SentTask:
    """A message that would have been sent."""

    def __init__(self, task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
        self._task = task
        self.args: Sequence[Any] = args or ()
        self.kwargs: Mapping[str, Any] = kwargs or {}
        #: Options of the message: ``countdown``, ``queue``, ``headers`` and the like.
        self.options = options
        #: What the caller got; None for a message that was not sent by a call, such as a retry.
        self.result: InvocationResult | None = sending.get()
        #: Whether :meth:`run` has run it.
        self.ran: bool = False

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self._task.name)

    @property
    def task_id(self) -> str:
        """Id of the task."""
        return str(self.options["task_id"])

    @property
    def on_commit(self) -> bool:
        """Whether it was called on commit."""
        return self.result is not None and self.result.on_commit

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(arguments)})"

    def run(self) -> Any:
        """Run the task here, as a worker would. Returns what it returns, and raises what it raises.

        Callbacks and the next step of its chain are sent to the same outbox.
        """
        self.ran = True
        options = {name: self.options.get(name) for name in ("link", "link_error", "headers")}
        done = self._task.run_here(self.args, self.kwargs, task_id=self.task_id, throw=False, **options)
        self._tell(done)
        chain = self.options.get("chain")
        if done.successful() and chain:
            *rest, following = chain
            signature(following, app=self._task.app).apply_async((done.result,), chain=rest or None)
        return done.get()

    def _tell(self, done: EagerResult[Any]) -> None:
        if self.result is not None:
            children: list[Any] = []
            meta = {
                "status": done.state,
                "result": done.result,
                "traceback": done.traceback,
                "children": children,
                "task_id": self.task_id,
            }
            self.result._set_cache(meta)  # type: ignore[attr-defined] # noqa: SLF001 - no backend has it


class Outbox(list[SentTask]):
    """The messages that would have been sent, in order."""

    def take(self, task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Collect a message instead of sending it to the broker."""
        options.setdefault("task_id", uuid())
        self.append(SentTask(task, args, kwargs, options))
        return task.AsyncResult(options["task_id"])

    def of(self, task: Task[..., Any]) -> list[SentTask]:
        """Return the messages of one task; raises ``TypeError`` for what is none, as its name."""
        name = getattr(task, "name", None)
        if name is None:
            msg = f"give the task itself, not {task!r}"
            raise TypeError(msg)
        return [sent for sent in self if sent.task == name]

    def run(self) -> list[Any]:
        """Run all messages that were not run yet, in order, and those that they send. Returns what each returned.

        If one of them raises, the error is raised here, and the ones after it are not run.
        """
        return [sent.run() for sent in self if not sent.ran]  # the list may grow meanwhile

    def assert_sent(self, task: Task[..., Any], *args: Any, **kwargs: Any) -> SentTask:
        """Return the first message of ``task`` with these arguments, whether positional or named.

        Raises ``AssertionError`` if there is none; the error lists what was sent.
        """
        of_task = self.of(task)
        wanted = _arguments(task, args, kwargs)
        for sent in of_task:
            if _arguments(task, sent.args, sent.kwargs) == wanted:
                return sent
        arguments = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
        msg = f"{task.name}({arguments}) was not sent; sent were: {', '.join(map(repr, self)) or 'none'}"
        raise AssertionError(msg)

    def assert_not_sent(self, task: Task[..., Any]) -> None:
        """Raise ``AssertionError`` if any message of ``task`` was sent."""
        found = self.of(task)
        if found:
            msg = f"{task.name} was sent: {', '.join(map(repr, found))}"
            raise AssertionError(msg)


@contextmanager
def capture_tasks() -> Iterator[Outbox]:
    """Collect the messages of every ``DjangoTask`` instead of sending them, to inspect and run them.

    ::

        with capture_tasks() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/orders/")
        assert outbox.assert_sent(send_mail, order.pk).on_commit
        outbox.run()

    Everything else works as with a broker: hooks, unique tasks and ignore windows. Claims are kept in a store of its
    own (:func:`isolated_claims`). It works with ``task_always_eager`` too, except for chains, groups and chords, which
    Celery then runs at once.
    """
    outbox = Outbox()
    before, diversion.take = diversion.take, outbox.take
    try:
        with isolated_claims():
            yield outbox
    finally:
        diversion.take = before


@contextmanager
def isolated_claims() -> Iterator[None]:
    """Keep claims, ignore windows and locks in a store of their own, which is empty at first and gone after the block."""
    with kept_in(LocMemCache(f"django_celery_extensions-{uuid()}", {})):
        yield


def forget_claim(
    task: DjangoTask, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> None:
    """End the claim and the ignore window of a call, whoever holds them, so that the next call is sent."""
    args, kwargs = args or (), kwargs or {}
    check_arguments(task, args, kwargs)
    name = unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, args, kwargs)
    claim_store(eager=True).forget(name)


def _arguments(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = body_signature(task).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)
