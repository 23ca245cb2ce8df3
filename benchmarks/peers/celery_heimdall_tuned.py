"""celery-heimdall whose duplicates do not wait (`unique_lock_blocking` off)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import celery_heimdall

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = replace(
    celery_heimdall.PEER,
    name="celery_heimdall_tuned",
    title="celery-heimdall {celery-heimdall}, `unique_lock_blocking` off",
    short="celery-heimdall, not waiting",
    groups=("enqueue",),
    venv="celery_heimdall",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what differs."""
    calls = celery_heimdall.calls(servers, unique_lock_blocking=False)
    return {name: measure for name, measure in calls.items() if name != "enqueue.not_unique"}
