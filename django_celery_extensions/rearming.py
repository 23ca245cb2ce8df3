"""The claim of a message that is sent again by its own run: a retry, a wait.

It is queued before the message goes out, which may start at once, and for one lease only until then: nobody else knows
whether a process that is killed meanwhile has sent it, and a claim without a message must end soon.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Holding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_celery_extensions.invocation import Header
    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: Seconds between two looks for a store that has to learn, within a lease, that a claim is queued again.
QUEUE_SECONDS = 0.25


@contextmanager
def rearmed(task: DjangoTask, header: Header, token: str, lasts: float) -> Iterator[None]:
    """Queue a claim for the message that is sent within, for ``lasts`` seconds from then on.

    ``token``: that of the run which has it; empty where there is none. A store that can't be reached never keeps a
    message from being sent: it is told later.
    """
    holding = Holding(name=header.name, task_id=header.task_id, token=token)
    briefly = min(lasts, task.policy.lease) if token else lasts
    try:
        claim_store(eager=True).admit(
            Ask(name=header.name, task_id=header.task_id, claim=briefly, proof=token)
        )
    except StoreUnavailable as exc:
        _told_later(task, holding, lasts, exc, header)
        yield
        return
    yield
    if briefly < lasts:
        try:
            _requeue(holding, lasts)
        except StoreUnavailable as exc:
            _told_later(task, holding, lasts, exc, header)


def _told_later(
    task: DjangoTask, holding: Holding, lasts: float, exc: StoreUnavailable, header: Header
) -> None:
    if holding.token:
        owe_queued(holding, lasts)
    logger.warning(
        "the claim of %s[%s] is not armed for its next run: %s",
        task.name,
        holding.task_id,
        exc,
        extra=header.log_extra,
    )


def owe_queued(holding: Holding, lasts: float) -> None:
    """Queue the claim that an execution has, or may have, for its message that was sent again, once the store is back.

    A running claim that nobody renews is gone after one lease. Harmless where the message has started meanwhile.
    """
    heartbeat.owe(partial(_requeue, holding, lasts), pause=QUEUE_SECONDS)


def _requeue(holding: Holding, lasts: float) -> None:
    claim_store(eager=True).requeue(holding, lasts)
