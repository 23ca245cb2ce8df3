"""What a store of beat's slots must do: know for each entry which slot was claimed last, and let each be claimed once.

The slots of a beat are kept under its name. Who leads it writes with the fence of its leadership: a store refuses
whoever's fence is older than one that it has seen. The record of an entry is a high-water mark: all slots up to
``done`` are settled, whether they were fired or not, so that none needs to be remembered.

A claimed slot is *pending* until it is noted that its message went out. Only the slot that an entry claimed last can be
pending, and only such a one is ever sent again. Workers note which slot of an entry they started, so that it is
started once: by the sending that came first.

Every method raises :class:`~django_celery_extensions.exceptions.StoreUnavailable` when it can't know the answer, and
may be repeated with the same arguments without changing its outcome.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds for which it is remembered which sending of a slot came first, where it was sent more than once.
REMEMBERED = 24 * 60 * 60.0


class Verdict(str, Enum):
    """What a store says to a leader."""

    #: It is so now.
    DONE = "done"
    #: This slot, or a later one, was claimed before.
    TAKEN = "taken"
    #: Somebody with a larger fence leads.
    FENCED = "fenced"
    #: The store knows of no leader: it has lost what it knew.
    GONE = "gone"
    #: A worker has started the slot.
    STARTED = "started"


@dataclass(frozen=True, kw_only=True)
class Leader:
    """Who writes: the leader of the beat ``name``, by a fence that the lease store ``place`` gave."""

    name: str
    place: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class SlotRecord:
    """What is known of one entry. Moments are microseconds since the epoch, 0 stands for none."""

    #: All slots up to here are settled.
    done: int
    #: The slot that was claimed last.
    slot: int = 0
    #: How many slots were claimed.
    count: int = 0
    #: The message of that slot went out.
    sent: bool = True
    #: Fence of the leader that claimed it, when that was, and the random id of the sending.
    fence: int = 0
    claimed_at: int = 0
    sending: str = ""
    #: The schedule that ``done`` was counted with.
    rule: str = ""
    #: Since when the entry is not in the schedule.
    gone: int = 0

    @property
    def last(self) -> int:
        """Where the grid of an interval starts: the last slot, or the first sight of the entry."""
        return self.slot or self.done

    def pack(self) -> str:
        """Return the record as stores keep it."""
        numbers = (self.done, self.slot, self.count, int(self.sent), self.fence, self.claimed_at)
        return " ".join([*map(str, numbers), self.sending or "-", self.rule or "-", str(self.gone)])


def unpack(packed: str) -> SlotRecord:
    """Return the record that :meth:`SlotRecord.pack` made."""
    done, slot, count, sent, fence, claimed_at, sending, rule, gone = packed.split(" ")
    return SlotRecord(
        done=int(done),
        slot=int(slot),
        count=int(count),
        sent=sent == "1",
        fence=int(fence),
        claimed_at=int(claimed_at),
        sending="" if sending == "-" else sending,
        rule="" if rule == "-" else rule,
        gone=int(gone),
    )


@dataclass(frozen=True, kw_only=True)
class Slots:
    """All records of a beat, as they were read in one go."""

    verdict: Verdict = Verdict.DONE
    records: Mapping[str, SlotRecord] = field(default_factory=dict)
    #: Nobody has led before, as far as the store knows.
    empty: bool = False
    #: The moment by the store's clock; None where it does not tell.
    now: int | None = None


@dataclass(frozen=True, kw_only=True)
class SlotClaim:
    """A leader wants to fire a slot."""

    entry: str
    slot: int
    #: Random id of this sending.
    sending: str
    rule: str


#: An entry and its slot, whose message went out.
Sent = tuple[str, int]


class SlotStore(ABC):
    """The slots of beats, by the name of the beat."""

    #: What is written here is seen by other processes.
    shared: ClassVar[bool]

    @abstractmethod
    def open(self, leader: Leader, entries: Sequence[str]) -> Slots:
        """Begin to lead: refuse older leaders from now on, and return the records, of these entries at least."""

    @abstractmethod
    def look(self, name: str, entries: Sequence[str]) -> Slots:
        """Return the same, for people who look on; writes nothing."""

    @abstractmethod
    def enter(self, leader: Leader, records: Mapping[str, SlotRecord], forget: Sequence[str]) -> Verdict:
        """Write records of entries that are new or changed, and forget others."""

    @abstractmethod
    def claim(self, leader: Leader, claim: SlotClaim, sent: Sequence[Sent]) -> tuple[Verdict, int | None]:
        """Claim a slot if it is later than all that are settled; returns also the moment by the store's clock.

        Notes before that what was ``sent``. Claiming again with the same sending is the same claim.
        """

    @abstractmethod
    def mark(self, name: str, sent: Sequence[Sent]) -> None:
        """Note that messages went out, of slots that are still the last of their entries; asks for no fence."""

    @abstractmethod
    def again(self, leader: Leader, entry: str, slot: int, slot_id: str) -> Verdict:
        """Ask whether a pending slot is to be sent again; STARTED if a worker has it already.

        From now on all its messages compete: the one that is started first is the only one that is.
        """

    @abstractmethod
    def start(self, name: str, entry: str, slot: int, slot_id: str, sending: str) -> bool:
        """Note that a worker starts the message of this sending; False if another one's was started before.

        The message of a sending may be started again, for it may be delivered again, and retried.
        """
