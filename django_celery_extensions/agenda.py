"""What a leader of beat has before it: which slot of which entry is next, and which has to be sent again.

Nothing here asks a store or a broker, and nothing reads a clock.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from celery.utils import uuid

from django_celery_extensions.slots import HOUR, NEVER, SECOND
from django_celery_extensions.stores.slots import SlotClaim, SlotRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_celery_extensions.timetable import Plan

logger = logging.getLogger(__name__)

#: An entry that comes back into the schedule within this time was never gone: old and new code take turns in a rollout.
GRACE = HOUR
#: Seconds before an entry whose schedule raises is looked at again.
_ODD = 60 * SECOND
#: Microseconds before a message that could not be sent is sent again: the first time, doubled each time, the longest.
_AGAIN_FIRST, _AGAIN_LONGEST = SECOND // 2, 8 * SECOND


class Clock:
    """The clock that beat follows: the store's, carried on by this process's monotonic one; else this machine's."""

    def __init__(self) -> None:
        self._ahead: int | None = None

    def now(self) -> int:
        """Return the moment."""
        return time_ns() // 1000 if self._ahead is None else self.tick() + self._ahead

    def follow(self, moment: int | None, asked_at: int) -> None:
        """Note what the store's clock said, if it says anything, when it was asked at ``asked_at`` (see :meth:`tick`).

        It said so at some time between the asking and now, which may be long ago: this process may have stood still.
        """
        if moment is None:
            return
        least, most = moment - self.tick(), moment - asked_at
        self._ahead = least if self._ahead is None else min(max(self._ahead, least), most)

    @staticmethod
    def tick() -> int:
        """Return this process's monotonic clock, in microseconds."""
        return round(monotonic() * SECOND)


@dataclass
class _Unsent:
    """A claimed slot whose message is not known to have gone out."""

    at: int
    wait: int = _AGAIN_FIRST


class Agenda:
    """The slots before a leader, from the moment ``since`` on at which it began to lead."""

    def __init__(self, records: Mapping[str, SlotRecord], since: int) -> None:
        self.records = dict(records)
        self._since = since
        self._plans: dict[str, Plan] = {}
        self._heap: list[tuple[int, str]] = []
        self._current: SlotClaim | None = None
        self._odd: set[str] = set()
        self._unsent: dict[str, _Unsent] = {}

    def arrange(self, plans: Mapping[str, Plan], now: int) -> tuple[dict[str, SlotRecord], list[str]]:
        """Take these entries and no others; returns the records that are new or changed, and who is to be forgotten.

        A new entry starts now. A changed schedule counts from now on, on the grid that it has.
        """
        changed, forget = {}, []
        for name, plan in plans.items():
            record = self._present(name, plan, now)
            if record is not self.records.get(name):
                changed[name] = record
        for name, record in self.records.items():
            if name not in plans:
                if not record.gone:
                    changed[name] = replace(record, gone=now)
                elif now - record.gone > GRACE:
                    forget.append(name)
        self.records.update(changed)
        for name in forget:
            del self.records[name]
        self._plans = dict(plans)
        self._unsent = {
            name: self._unsent.get(name, _Unsent(now)) for name in plans if not self.records[name].sent
        }
        if self._current is not None and self._current.entry not in plans:
            self._current = None
        waiting = self._unsent.keys() | ({self._current.entry} if self._current else set())
        self._heap = [(self._next(name, now), name) for name in plans if name not in waiting]
        heapify(self._heap)
        return changed, forget

    def _present(self, name: str, plan: Plan, now: int) -> SlotRecord:
        record, rule = self.records.get(name), plan.rule.digest
        if record is None or (record.gone and now - record.gone > GRACE):
            return SlotRecord(done=now, count=0 if record is None else record.count, rule=rule)
        if record.rule != rule:
            return replace(record, done=max(record.done, now), rule=rule, gone=0)
        return replace(record, gone=0) if record.gone else record

    # --- first time --------------------------------------------------------------------------------------

    def due(self, now: int) -> SlotClaim | None:
        """Return the slot to claim now: the one that is due for longest. The same one until :meth:`claimed`."""
        while self._current is None and self._heap and self._heap[0][0] <= now:
            _, name = heappop(self._heap)
            slot = self._next(name, now)  # what was the latest when it was looked at may not be any more
            if slot > now:
                heappush(self._heap, (slot, name))
                continue
            rule = self._plans[name].rule.digest
            self._current = SlotClaim(entry=name, slot=slot, sending=uuid(), rule=rule)
        return self._current

    def claimed(self, claim: SlotClaim, fence: int, now: int) -> None:
        """Note that this slot is ours; it is not sent yet."""
        self._current = None
        record = self.records[claim.entry]
        self.records[claim.entry] = replace(
            record,
            done=claim.slot,
            slot=claim.slot,
            count=record.count + 1,
            sent=False,
            fence=fence,
            claimed_at=now,
            sending=claim.sending,
            rule=claim.rule,
        )
        self._unsent[claim.entry] = _Unsent(now)

    def sent(self, name: str, now: int) -> None:
        """Note that the message of the last slot of an entry went out, or never will; its next one may come."""
        self.records[name] = replace(self.records[name], sent=True)
        self._unsent.pop(name, None)
        heappush(self._heap, (self._next(name, now), name))

    # --- again -------------------------------------------------------------------------------------------

    def to_send_again(self, now: int) -> str | None:
        """Return an entry whose last slot has to be sent again now."""
        due = [name for name, unsent in self._unsent.items() if unsent.at <= now]
        return min(due, key=lambda name: self._unsent[name].at, default=None)

    def postpone(self, name: str, now: int) -> None:
        """Send it again later: it could not be sent."""
        unsent = self._unsent[name]
        unsent.at, unsent.wait = now + unsent.wait, min(unsent.wait * 2, _AGAIN_LONGEST)

    # --- both --------------------------------------------------------------------------------------------

    def next_at(self) -> int:
        """Return the moment at which there is something to do."""
        if self._current is not None:
            return self._current.slot
        moments = [unsent.at for unsent in self._unsent.values()]
        return min([*moments, *(slot for slot, _ in self._heap[:1])], default=NEVER)

    def _next(self, name: str, now: int) -> int:
        try:
            slot = next_slot(self._plans[name], self.records[name], now, self._since)
        except Exception:
            # One entry whose schedule fails must not stop the others.
            if name not in self._odd:
                logger.exception("the next slot of %r can't be calculated; it is tried again", name)
            self._odd.add(name)
            return now + _ODD
        self._odd.discard(name)
        return slot


def next_slot(plan: Plan, record: SlotRecord, now: int, since: int) -> int:
    """Return the slot of an entry that is to be fired next: it is due if it is not later than ``now``."""
    return plan.rule.due(
        done=record.done,
        last=record.last,
        now=now,
        since=since,
        catch_up=plan.catch_up,
        max_age=plan.max_age,
    )
