"""Helpers for the tests of a project: what was invoked, what would have been sent, and how it ends.

:func:`capture_tasks` sends nothing and needs no broker, no result backend and no cache. :func:`capture_invocations`
looks on while tasks are sent, or run eagerly. On-commit calls need the transaction to commit: use
``TestCase.captureOnCommitCallbacks(execute=True)``, pytest-django's ``django_capture_on_commit_callbacks``, or a
``TransactionTestCase``. With pytest there are fixtures (:mod:`django_celery_extensions.pytest_plugin`).
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
    """One call that was made: of which task, with what, and its result."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    result: InvocationResult

    @property
    def outcome(self) -> Outcome:
        """How the invocation ended; WAITING before its transaction commits, and for good after a rollback."""
        return self.result.outcome


@contextmanager
def capture_invocations(*tasks: DjangoTask) -> Iterator[list[CapturedInvocation]]:
    """Collect the calls of these tasks (of every ``DjangoTask`` where none is named) in order.

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
        #: What the caller got; None for a message that no call sent, as a retry.
        self.result: InvocationResult | None = sending.get()
        #: It has been run by :meth:`run`.
        self.ran = False

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
        """It was called to be sent at a commit."""
        return self.result is not None and self.result.on_commit

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(arguments)})"

    def run(self) -> Any:
        """Run the task here, as a worker would, and return what it returns; raises what it raises.

        Callbacks, and the next of its chain, are sent then: into the same outbox.
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
    """What would have been sent, in order."""

    def take(self, task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Take a message in place of the broker."""
        options.setdefault("task_id", uuid())
        self.append(SentTask(task, args, kwargs, options))
        return task.AsyncResult(options["task_id"])

    def of(self, task: Task[..., Any]) -> list[SentTask]:
        """Return the messages of one task."""
        return [sent for sent in self if sent.task == task.name]

    def run(self) -> list[Any]:
        """Run whatever has not been run, in order, and what that sends in turn; return what each returned.

        Raises what the first one that fails raises; those after it have not been run then.
        """
        return [sent.run() for sent in self if not sent.ran]  # the list may grow meanwhile

    def assert_sent(self, task: Task[..., Any], *args: Any, **kwargs: Any) -> SentTask:
        """Return the first message of ``task`` with these arguments, however they were passed.

        Raises ``AssertionError`` where there is none, and says what there is.
        """
        wanted = _arguments(task, args, kwargs)
        for sent in self.of(task):
            if _arguments(task, sent.args, sent.kwargs) == wanted:
                return sent
        arguments = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
        msg = f"{task.name}({arguments}) was not sent; sent were: {', '.join(map(repr, self)) or 'none'}"
        raise AssertionError(msg)

    def assert_not_sent(self, task: Task[..., Any]) -> None:
        """Raise ``AssertionError`` where any message of ``task`` was sent."""
        found = self.of(task)
        if found:
            msg = f"{task.name} was sent: {', '.join(map(repr, found))}"
            raise AssertionError(msg)


@contextmanager
def capture_tasks() -> Iterator[Outbox]:
    """Send no message of a ``DjangoTask``: collect it, to be looked at and to be run on demand.

    ::

        with capture_tasks() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/orders/")
        assert outbox.assert_sent(send_mail, order.pk).on_commit
        outbox.run()

    Everything else is as with a broker: hooks, unique tasks and ignore windows, kept in a store of its own
    (:func:`isolated_claims`). Also where ``task_always_eager`` is set, but for chains, groups and chords, which Celery
    runs at once then.
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
    """Keep claims, ignore windows and locks in an empty store of its own, gone with the block."""
    with kept_in(LocMemCache(f"django_celery_extensions-{uuid()}", {})):
        yield


def forget_claim(
    task: DjangoTask, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> None:
    """End the claim and the ignore window of a call, whoever they belong to, so that the next one is sent."""
    name = unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, args or (), kwargs or {})
    claim_store(eager=True).forget(name)


def _arguments(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = body_signature(task).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)
