"""What a message tells Amazon SQS: its group, its deduplication id, its delay.

kombu sends these options as they are. On every other broker they mean nothing, and do no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils import uuid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery.app.task import Context

#: A FIFO queue delivers the messages of one group one after the other.
GROUP = "MessageGroupId"
#: A FIFO queue drops a message that has the id of another one of the last five minutes.
DEDUPLICATION = "MessageDeduplicationId"

#: Seconds that SQS keeps a message back, by either name.
DELAYS = ("delay_seconds", "DelaySeconds")


def address(options: dict[str, Any]) -> None:
    """Give a message a group of its own, its task id, and a deduplication id.

    The latter is random for each sending, since a task is sent again under the same task id: for a retry, or because
    it has to wait. kombu makes one for each try to publish; this one lets SQS drop what was published twice.
    """
    options.setdefault(GROUP, options.get("task_id"))
    options.setdefault(DEDUPLICATION, uuid())


def stay_in_group(request: Context, options: dict[str, Any]) -> None:
    """Keep a message that is sent again in the group that its caller gave it: Celery forgets it."""
    group = (request.properties or {}).get(GROUP)
    if group is not None and request.id == options.get("task_id"):
        options.setdefault(GROUP, group)


def delay(options: Mapping[str, Any]) -> float:
    """Return how many seconds SQS will keep a message back, beside any countdown; kombu refuses what is no number."""
    for name in DELAYS:
        value = options.get(name)
        if isinstance(value, (int, float)):
            return max(0.0, float(value))
    return 0.0
