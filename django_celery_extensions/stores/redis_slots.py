"""Beat's slots on Redis: one script, one round trip, for each step, whatever the number of entries.

The records of a beat are one hash. All keys of a beat carry the same hash tag as its lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_celery_extensions import keys
from django_celery_extensions.stores.redis_client import RedisStore, Script, ms, text
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

_OPEN, _CLAIM, _ENTER, _AGAIN, _START = map(
    Script, ("slot_open", "slot_claim", "slot_enter", "slot_again", "slot_start")
)
#: Records that are written at once: a script holds up everybody else on the server.
_AT_ONCE = 2000


class RedisSlotStore(RedisStore, SlotStore):
    """Slots in the Redis behind a Django cache."""

    def open(self, leader: Leader, entries: Sequence[str]) -> Slots:  # noqa: ARG002 - all are in one hash
        """See :meth:`SlotStore.open`."""
        return self._open(leader.name, leader.place, leader.fence)

    def look(self, name: str, entries: Sequence[str]) -> Slots:  # noqa: ARG002 - likewise
        """See :meth:`SlotStore.look`."""
        return self._open(name, "", "")

    def _open(self, name: str, place: str, fence: int | str) -> Slots:
        keys_ = self._keys(name, "leader", "records")
        verdict, led_before, second, microsecond, packed = _OPEN(self._client, keys_, (place, fence))
        return Slots(
            verdict=Verdict(text(verdict)),
            records=_records(dict(zip(packed[::2], packed[1::2], strict=True))),
            empty=not led_before,
            now=_moment(second, microsecond),
        )

    def enter(self, leader: Leader, records: Mapping[str, SlotRecord], forget: Sequence[str]) -> Verdict:
        """See :meth:`SlotStore.enter`."""
        verdict = Verdict.DONE
        words = [(name, record.pack()) for name, record in records.items()]
        for start in range(0, max(1, len(words)), _AT_ONCE):
            pairs = [word for pair in words[start : start + _AT_ONCE] for word in pair]
            args = (leader.place, leader.fence, len(forget), *forget, *pairs)
            answer = _ENTER(self._client, self._keys(leader.name, "leader", "records", "started"), args)
            verdict = Verdict(text(answer))
            if verdict is not Verdict.DONE:
                break
            forget = ()
        return verdict

    def claim(self, leader: Leader, claim: SlotClaim, sent: Sequence[Sent]) -> tuple[Verdict, int | None]:
        """See :meth:`SlotStore.claim`."""
        wanted = (claim.entry, claim.slot, claim.sending, claim.rule)
        args = (leader.place, leader.fence, *wanted, *(word for pair in sent for word in pair))
        verdict, second, microsecond = _CLAIM(
            self._client, self._keys(leader.name, "leader", "records"), args
        )
        return Verdict(text(verdict)), _moment(second, microsecond)

    def mark(self, name: str, sent: Sequence[Sent]) -> None:
        """See :meth:`SlotStore.mark`."""
        args = ("", 0, "", 0, "", "", *(word for pair in sent for word in pair))
        _CLAIM(self._client, self._keys(name, "leader", "records"), args)

    def again(self, leader: Leader, entry: str, slot: int, slot_id: str) -> Verdict:
        """See :meth:`SlotStore.again`."""
        keys_ = self._keys(leader.name, "leader", "started", f"first:{slot_id}")
        answer = _AGAIN(self._client, keys_, (leader.place, leader.fence, entry, slot, ms(REMEMBERED)))
        return Verdict(text(answer))

    def start(self, name: str, entry: str, slot: int, slot_id: str, sending: str) -> bool:
        """See :meth:`SlotStore.start`."""
        keys_ = self._keys(name, "started", f"first:{slot_id}")
        return bool(_START(self._client, keys_, (entry, slot, sending, ms(REMEMBERED))))

    def _keys(self, name: str, *parts: str) -> list[str]:
        start = self.key(keys.lease_key(name))
        return [f"{start}:slots:{part}" for part in parts]


def _records(packed: Mapping[Any, Any]) -> dict[str, SlotRecord]:
    return {text(entry): unpack(text(record)) for entry, record in packed.items()}


def _moment(second: Any, microsecond: Any) -> int:
    return int(second) * 1_000_000 + int(microsecond)
