"""Writes the event log."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from django.db import transaction

from example_project.shop.models import InvocationEvent

Kind = InvocationEvent.Kind


def record(
    kind: Kind,
    task: Task,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    invocation_id: str | None,
    task_id: str | None = None,
    detail: object = "",
) -> InvocationEvent:
    """Write one line. It is there at once, whatever becomes of the caller's transaction (see ``LogRouter``)."""
    arguments = [repr(value) for value in args or ()]
    arguments += [f"{name}={value!r}" for name, value in (kwargs or {}).items()]
    return InvocationEvent.objects.create(
        kind=kind,
        task=task.name.rpartition(".")[2],
        arguments=", ".join(arguments)[:120],
        invocation_id=invocation_id or "",
        task_id=task_id or "",
        in_transaction=transaction.get_connection().in_atomic_block,
        detail=str(detail)[:200],
    )
