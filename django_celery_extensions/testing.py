"""Helpers for the tests of a project: what was invoked, and how it ended.

In tests run tasks eagerly (``CELERY_TASK_ALWAYS_EAGER = True``, any cache but a ``DummyCache``), or send
them to a broker nobody reads from (``memory://``) and look at what was sent. On-commit calls need the
transaction to commit: use ``TestCase.captureOnCommitCallbacks(execute=True)`` or ``TransactionTestCase``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_celery_extensions import signals
from django_celery_extensions.config import settings
from django_celery_extensions.keys import unique_name
from django_celery_extensions.stores import claim_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django_celery_extensions.invocation import Outcome
    from django_celery_extensions.results import InvocationResult
    from django_celery_extensions.task import DjangoTask

__all__ = ["CapturedInvocation", "capture_invocations", "forget_claim"]


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


def forget_claim(
    task: DjangoTask, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> None:
    """End the claim and the ignore window of a call, whoever they belong to, so that the next one is sent."""
    name = unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, args or (), kwargs or {})
    claim_store(eager=True).forget(name)
