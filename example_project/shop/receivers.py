"""Logs the command task, which has no hooks of ours, through the signals that carry the same events."""

from typing import Any

from celery import Task
from django.dispatch import receiver

from django_celery_extensions import signals
from example_project.shop.eventlog import Kind, record
from example_project.shop.tasks import ShopTask

KINDS = {
    signals.invocation_applied: Kind.APPLIED,
    signals.invocation_triggered: Kind.TRIGGERED,
    signals.invocation_unique: Kind.UNIQUE,
    signals.invocation_ignored: Kind.IGNORED,
    signals.invocation_timed_out: Kind.TIMED_OUT,
    signals.task_started: Kind.STARTED,
    signals.task_retried: Kind.RETRIED,
    signals.task_failed: Kind.FAILED,
    signals.task_succeeded: Kind.SUCCEEDED,
}


@receiver(list(KINDS))
def log_event(signal: Any, task: Task, args: Any, kwargs: Any, **event: Any) -> None:
    """Write a line about a task that isn't a ``ShopTask``: those write their own."""
    if isinstance(task, ShopTask):
        return
    result = event.get("result")
    task_id = event.get("task_id") or (result.id if result else None)
    detail = event.get("exc") or event.get("ex") or event.get("retval") or ""
    record(KINDS[signal], task, args, kwargs, event.get("invocation_id"), task_id, detail)
