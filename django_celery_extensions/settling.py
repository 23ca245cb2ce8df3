"""What a worker's parent process and its child both know of one delivery, and the end of a claim that no body can end.

A delivery has an owner token from the moment at which the worker takes the message. The child claims with it; whoever
sees the child end settles by it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from django_celery_extensions.exceptions import CeleryError, StoreUnavailable
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.invocation import HEADER, TOKEN, Header, new_id, read_header
from django_celery_extensions.rearming import owe_queued
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Holding
from django_celery_extensions.timing import queued_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: Name in a request's header of the mark that the body was reached.
REACHED = "reached"
#: How long a process may go on that was told to end: billiard kills it 0.1 seconds later.
DYING_SECONDS = 0.5


def mark_delivery(request: dict[str, Any]) -> str:
    """Give one delivery of a message an owner token, known to the worker's parent process and its child."""
    token = new_id()
    marks_of(request)[TOKEN] = token
    return token


def marks_of(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the worker notes of one delivery."""
    # Kept within our header, not beside it: Celery sends unknown names of a request along with a retry.
    header = request.get(HEADER)
    if not isinstance(header, dict):
        header = request[HEADER] = {}
    return header


def settle(holding: Holding, *, lost: bool = False) -> None:
    """End a claim; raises ``StoreUnavailable``."""
    claim_store(eager=True).settle(holding, lost=lost)


def queued_again(task: DjangoTask, header: Header, expires: Any, countdown: float = 0.0) -> float:
    """Return the seconds that a claim lasts whose message goes back to the queue; ``expires`` is the message's."""
    return queued_for(header.stale, countdown, expires, task.app.now())


def abandon(
    task: DjangoTask, request: dict[str, Any], *, token: str, requeue: bool = False, dying: bool = False
) -> None:
    """Settle the claim of a message from its headers, where no body can: end it, or keep it queued.

    ``dying``: the body is told to end, and may have some moments left. A running claim ends after them by itself,
    or when the body has ended.
    """
    header = read_header(request, request.get("id"))
    if header is None or not task.policy.claims:
        return
    holding = Holding(name=header.name, task_id=header.task_id, token=token)
    # With a token: the execution is gone, and may not have come to its start.
    end = partial(settle, holding, lost=bool(token))
    lasts = queued_again(task, header, request.get("expires"))

    def queue() -> None:
        ask = Ask(name=header.name, task_id=header.task_id, claim=lasts, proof=token)
        claim_store(eager=True).admit(ask)

    def end_soon() -> None:
        if not (dying and claim_store(eager=True).renew([(holding, DYING_SECONDS)]) == [True]):
            end()

    if requeue and task.policy.unique:
        _now_or_later(queue, partial(owe_queued, holding, lasts), header)
    else:
        _now_or_later(end_soon, partial(heartbeat.owe, end), header)


def settle_unknown(header: Header) -> None:
    """End the claim of a message that the worker drops, as it does not know its task."""
    end = partial(settle, Holding(name=header.name, task_id=header.task_id, token=""))
    _now_or_later(end, partial(heartbeat.owe, end), header)


def _now_or_later(step: Callable[[], None], owe: Callable[[], None], header: Header) -> None:
    """Take a step of the store, or owe it where the store can't be reached."""
    try:
        step()
    except StoreUnavailable as exc:
        why = "the claim of %s of task %s is settled when the store is back: %s"
        logger.warning(why, header.name, header.task_id, exc, extra=header.log_extra)
        owe()
    except CeleryError as exc:  # the cache can't be used
        why = "the claim of %s of task %s ends by itself: %s"
        logger.warning(why, header.name, header.task_id, exc, extra=header.log_extra)
