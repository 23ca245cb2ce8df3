"""The nine events of an invocation and of its task: a hook and a Django signal for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_celery_extensions import signals

if TYPE_CHECKING:
    from django.dispatch import Signal

    from django_celery_extensions.task import DjangoTask


class Event:
    """Calls the hook of a task, then the receivers of the signal, with the same values."""

    def __init__(self, hook: str, signal: Signal, arguments: str) -> None:
        self.hook = hook
        self.signal = signal
        self.arguments = tuple(arguments.split())

    def tell(self, task: DjangoTask, *values: Any) -> None:
        """Tell the event; what a hook or a receiver raises goes to the caller."""
        getattr(task, self.hook)(*values)
        if self.signal.receivers:
            self.signal.send(sender=type(task), task=task, **dict(zip(self.arguments, values, strict=True)))


APPLIED = Event("on_invocation_apply", signals.invocation_applied, "invocation_id args kwargs options result")
TRIGGERED = Event(
    "on_invocation_trigger", signals.invocation_triggered, "invocation_id args kwargs task_id options result"
)
UNIQUE = Event(
    "on_invocation_unique", signals.invocation_unique, "invocation_id args kwargs task_id options result"
)
IGNORED = Event(
    "on_invocation_ignored", signals.invocation_ignored, "invocation_id args kwargs task_id options result"
)
TIMED_OUT = Event(
    "on_invocation_timeout",
    signals.invocation_timed_out,
    "invocation_id args kwargs task_id ex options result",
)
STARTED = Event("on_task_start", signals.task_started, "task_id args kwargs")
RETRIED = Event("on_task_retry", signals.task_retried, "task_id args kwargs exc eta")
FAILED = Event("on_task_failure", signals.task_failed, "task_id args kwargs exc einfo")
SUCCEEDED = Event("on_task_success", signals.task_succeeded, "task_id args kwargs retval")
