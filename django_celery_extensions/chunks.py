"""Calls that have been checked, on their way together: a few hundred share their round trips.

:func:`send_each` takes them chunk by chunk: admit all, tell the hooks of each in order, send all. An error ends the list
as it would end a loop: what was before it is sent, what comes after it is not, and no claim is left of what was not. Where
the broker leaves open whether it took a batch, the claims of that batch end as well, as that of a single call does
whose message failed: a message that came through all the same makes its claim when it starts, or is dropped where another
task has it by then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django_celery_extensions.batches import open_batch
from django_celery_extensions.dispatch import (
    admit,
    asking,
    conclude,
    sending,
    unanswered,
    unsent,
    withdraw,
)
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Answer, Unsent, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django_celery_extensions.batches import Batch
    from django_celery_extensions.calls import Prepared
    from django_celery_extensions.results import InvocationResult

    Progress = Callable[[int, int], object]

logger = logging.getLogger(__name__)

#: Calls that share their round trips.
CHUNK = 500
#: Bytes of messages that go out together at most.
MOST_BYTES = 4_000_000


def send_each(calls: list[Prepared], progress: Progress | None = None) -> None:
    """Admit and send calls that have been checked, in order; the list is empty then.

    An error leaves the outcome of what was not sent at WAITING, or UNCERTAIN.
    """
    done, total = 0, len(calls)
    while calls:
        done += _send_some(calls)
        if progress is not None and (done % CHUNK == 0 or not calls):
            progress(done, total)


def _send_some(calls: list[Prepared]) -> int:
    """Send the first of them, and take them off the list; return how many."""
    chunk = _next_chunk(calls)
    del calls[: len(chunk)]
    if len(chunk) == 1:
        (call,) = chunk
        conclude(call, admit(call), call.plan.send)
    else:
        _Chunk(chunk).send()
    return len(chunk)


def _next_chunk(calls: list[Prepared]) -> list[Prepared]:
    if calls[0].plan.eager:
        return calls[:1]
    chunk = calls[:CHUNK]
    eager = [call.plan.eager for call in chunk]
    return chunk[: eager.index(True)] if True in eager else chunk


@dataclass(kw_only=True, slots=True)
class _Parcel:
    """A message that is ready to be sent."""

    call: Prepared
    #: What the store said.
    answer: Answer
    arguments: tuple[Any, Any]
    options: dict[str, Any]
    sent: bool = False
    #: Nobody knows whether it was sent.
    uncertain: bool = False

    @property
    def result(self) -> InvocationResult:
        """What the caller got."""
        return self.call.result

    @property
    def way(self) -> tuple[Any, ...]:
        """What decides over which connection it goes, and how often that is tried."""
        names = ("producer", "publisher", "connection", "retry", "retry_policy")
        return self.call.plan.task.app, *map(self.options.get, names)


@dataclass
class _Chunk:
    """Calls that are admitted in one round trip, and sent in another."""

    calls: list[Prepared]
    #: What the store said of each, as far as it was asked.
    answers: list[Answer | StoreUnavailable] = field(default_factory=list)
    parcels: list[_Parcel] = field(default_factory=list)

    def send(self) -> None:
        """Take them all the way."""
        self.answers = self._admitted()
        reached = 0
        try:
            for call, answer in zip(self.calls, self.answers, strict=True):
                reached += 1
                self._conclude(call, answer)
        except BaseException:
            self._give_up_from(reached)
            self._ship()
            raise
        self._ship()

    def _admitted(self) -> list[Answer | StoreUnavailable]:
        asks = [asking(call) for call in self.calls]
        wanted = [ask for ask in asks if ask is not None]
        answers: Iterator[Answer | StoreUnavailable] = iter(())
        if wanted:
            try:
                answers = iter(claim_store().admit_many(wanted))
            except StoreUnavailable as exc:
                answers = iter([exc] * len(wanted))
        return [Answer(verdict=Verdict.FREE) if ask is None else next(answers) for ask in asks]

    def _conclude(self, call: Prepared, answer: Answer | StoreUnavailable) -> None:
        if isinstance(answer, StoreUnavailable):
            answer = unanswered(call, answer)
        conclude(call, answer, partial(self._collect, call, answer))

    def _collect(self, call: Prepared, answer: Answer, /, args: Any, kwargs: Any, **options: Any) -> None:
        self.parcels.append(_Parcel(call=call, answer=answer, arguments=(args, kwargs), options=options))

    def _ship(self) -> None:
        """Send what was collected; give up what was not sent."""
        try:
            for _, alike in groupby(self.parcels, key=attrgetter("way")):
                _send_together(list(alike))
        except BaseException:
            self._give_up_parcels()
            raise

    def _give_up_from(self, place: int) -> None:
        """End the claims of the calls from here on: they are not sent."""
        claims: list[Unsent | None] = []
        owed = []
        for call, answer in zip(self.calls[place:], self.answers[place:], strict=True):
            if isinstance(answer, Answer):
                claims.append(unsent(call, answer))
            elif call.name is not None and call.plan.task.policy.unique and "task_id" not in call.given:
                owed.append(Unsent(name=call.name, task_id=call.task_id))
        if owed:
            heartbeat.owe(partial(withdraw, owed))
        _give_up(claims)

    def _give_up_parcels(self) -> None:
        lost: dict[str, Outcome] = {}
        claims = []
        for parcel in self.parcels:
            if not parcel.sent:
                lost[parcel.result.id] = Outcome.UNCERTAIN if parcel.uncertain else Outcome.WAITING
                parcel.result.outcome = lost[parcel.result.id]
                claims.append(unsent(parcel.call, parcel.answer))
        for call, answer in zip(self.calls, self.answers, strict=True):
            if isinstance(answer, Answer) and answer.verdict is Verdict.HELD and answer.task_id in lost:
                call.result.outcome = lost[answer.task_id]  # it joined one that was not sent
        _give_up(claims)


def _send_together(parcels: list[_Parcel]) -> None:
    """Send messages that go the same way; tells each whether it was sent."""
    if len(parcels) == 1:
        _send(parcels[0], parcels[0].options)
        parcels[0].sent = True
        return
    waiting: list[_Parcel] = []
    with open_batch(parcels[0].call.plan.task.app, parcels[0].options) as batch:
        try:
            for parcel in parcels:
                _send(parcel, batch.options(parcel.options))
                waiting.append(parcel)
                if not batch.deferred or batch.size > MOST_BYTES:
                    _flush(batch, waiting)
        except BaseException:
            _flush(batch, waiting)  # what was before the one that failed
            raise
        _flush(batch, waiting)


def _send(parcel: _Parcel, options: dict[str, Any]) -> None:
    outer = sending.set(parcel.result)
    try:
        parcel.call.plan.send(*parcel.arguments, **options)
    finally:
        sending.reset(outer)


def _flush(batch: Batch, waiting: list[_Parcel]) -> None:
    flying = waiting.copy()
    waiting.clear()
    try:
        batch.flush()
    except BaseException:
        for parcel in flying:
            parcel.uncertain = batch.uncertain
        raise
    for parcel in flying:
        parcel.sent = True


def _give_up(claims: Iterable[Unsent | None]) -> None:
    """End the claims of messages that were not sent."""
    made = [claim for claim in claims if claim is not None]
    if not made:
        return
    try:
        withdraw(made)
    except StoreUnavailable as exc:
        heartbeat.owe(partial(withdraw, made))
        logger.warning("%d claims stay until the store is back, or until they are stale: %s", len(made), exc)
