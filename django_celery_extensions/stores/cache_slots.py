"""Beat's slots through Django's cache API, for caches that are not Redis.

Only ``add`` is atomic in most of them, so it decides: a slot is claimed by adding a key of its own, which is kept long enough
for whoever read the record before; after that the record, a high-water mark, tells. Whether a leader is refused for
its fence is read first, so that one which stands still between reading and adding may claim a slot after its time;
nobody else gets that slot then. There is no clock to follow: beat follows that of the leader's machine.

A cache that evicts what it was given (Memcached out of memory, a database cache over MAX_ENTRIES) forgets slots.
"""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from django_celery_extensions import keys
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores.cache_client import CacheStore
from django_celery_extensions.stores.slots import (
    REMEMBERED,
    Leader,
    Sent,
    SlotClaim,
    SlotRecord,
    Slots,
    SlotStore,
    Verdict,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds that a record is kept: the slots of a yearly entry lie that far apart.
_KEPT = 3 * 366 * 24 * 3600.0
#: Seconds that the key of a claimed slot is kept, beside the record.
_CLAIMED = 3600.0
#: Records that are read at once.
_AT_ONCE = 500


class CacheSlotStore(CacheStore, SlotStore):
    """Slots as values of any Django cache whose ``add`` is atomic."""

    def open(self, leader: Leader, entries: Sequence[str]) -> Slots:
        """See :meth:`SlotStore.open`."""
        with self.step(leader.name):
            held = self._cache.get(_key(leader.name, "leader"))
            if held is not None and held[0] == leader.place and held[1] > leader.fence:
                return Slots(verdict=Verdict.FENCED)
            self._write(_key(leader.name, "leader"), (leader.place, leader.fence))
            return replace(self._read(leader.name, entries), empty=held is None)

    def look(self, name: str, entries: Sequence[str]) -> Slots:
        """See :meth:`SlotStore.look`."""
        with self.step(name):
            return self._read(name, entries)

    def enter(self, leader: Leader, records: Mapping[str, SlotRecord], forget: Sequence[str]) -> Verdict:
        """See :meth:`SlotStore.enter`."""
        with self.step(leader.name):
            verdict = self._verdict(leader)
            if verdict is not Verdict.DONE:
                return verdict
            for entry in forget:
                self._cache.delete(_key(leader.name, "record", entry))
            for entry, record in records.items():
                self._write(_key(leader.name, "record", entry), record.pack())
            return verdict

    def claim(self, leader: Leader, claim: SlotClaim, sent: Sequence[Sent]) -> tuple[Verdict, int | None]:
        """See :meth:`SlotStore.claim`."""
        with self.step(leader.name):
            self._mark(leader.name, sent)
            verdict = self._verdict(leader)
            if verdict is not Verdict.DONE:
                return verdict, None
            record = self._record(leader.name, claim.entry) or SlotRecord(done=0)
            if (record.slot, record.sending) == (claim.slot, claim.sending):
                return verdict, None
            if record.done >= claim.slot or not self._add_claim(leader, claim):
                return Verdict.TAKEN, None
            claimed = SlotRecord(
                done=claim.slot,
                slot=claim.slot,
                count=record.count + 1,
                sent=False,
                fence=leader.fence,
                claimed_at=time.time_ns() // 1000,
                sending=claim.sending,
                rule=claim.rule,
            )
            self._write(_key(leader.name, "record", claim.entry), claimed.pack())
            return verdict, None

    def mark(self, name: str, sent: Sequence[Sent]) -> None:
        """See :meth:`SlotStore.mark`."""
        if sent:
            with self.step(name):
                self._mark(name, sent)

    def again(self, leader: Leader, entry: str, slot: int, slot_id: str) -> Verdict:  # noqa: ARG002 - by its id
        """See :meth:`SlotStore.again`."""
        with self.step(leader.name):
            verdict = self._verdict(leader)
            if verdict is Verdict.DONE and self._cache.get(_key(leader.name, "start", slot_id)) is not None:
                return Verdict.STARTED
            return verdict

    def start(self, name: str, entry: str, slot: int, slot_id: str, sending: str) -> bool:  # noqa: ARG002 - likewise
        """See :meth:`SlotStore.start`; remembered of each slot, not only of those that are sent again."""
        key = _key(name, "start", slot_id)
        with self.step(name):
            return bool(self._cache.add(key, sending, REMEMBERED) or self._cache.get(key) == sending)

    def _mark(self, name: str, sent: Sequence[Sent]) -> None:
        for entry, slot in sent:
            record = self._record(name, entry)
            if record is not None and record.slot == slot and not record.sent:
                self._write(_key(name, "record", entry), replace(record, sent=True).pack())

    def _add_claim(self, leader: Leader, claim: SlotClaim) -> bool:
        key = _key(leader.name, "claim", f"{claim.entry}\n{claim.slot}")
        if self._cache.add(key, (leader.fence, claim.sending), _CLAIMED):
            return True
        fence, sending = self._cache.get(key) or (0, "")
        if sending == claim.sending:
            return True
        if (
            fence < leader.fence
        ):  # of a leader that ended before it could write the record, and so before it sent
            return self.put(key, (leader.fence, claim.sending), _CLAIMED)
        return False

    def _verdict(self, leader: Leader) -> Verdict:
        held = self._cache.get(_key(leader.name, "leader"))
        if held is None:
            return Verdict.GONE
        place, fence = held
        return Verdict.FENCED if place != leader.place or fence > leader.fence else Verdict.DONE

    def _read(self, name: str, entries: Sequence[str]) -> Slots:
        records = {}
        by_key = {_key(name, "record", entry): entry for entry in entries}
        wanted = [*by_key]
        for start in range(0, len(wanted), _AT_ONCE):
            for key, packed in self._cache.get_many(wanted[start : start + _AT_ONCE]).items():
                records[by_key[key]] = unpack(packed)
        return Slots(records=records, empty=self._cache.get(_key(name, "leader")) is None)

    def _record(self, name: str, entry: str) -> SlotRecord | None:
        packed = self._cache.get(_key(name, "record", entry))
        return None if packed is None else unpack(packed)

    def _write(self, key: str, value: object) -> None:
        if not self.put(key, value, _KEPT):
            msg = f"the cache does not keep {key}"
            raise StoreUnavailable(msg)


def _key(name: str, part: str, of: str = "") -> str:
    # An entry may have any name, and a key of Memcached may not.
    digest = sha256(of.encode()).hexdigest()[:32] if of else ""
    return f"{keys.lease_key(name)}:slots:{part}:{digest}"
