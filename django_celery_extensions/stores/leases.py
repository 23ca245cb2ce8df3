"""What a store of leases must do: locks, semaphores, and the leadership of beat.

A name has at most ``most`` holders at once. Each holds by an owner token of its own, for a time of its own, and
gets a fence: a number larger than that of every earlier holder of the name. What a store can't know it says with
:class:`~django_celery_extensions.exceptions.StoreUnavailable`, never with an answer.

Who waits is queued: :meth:`LeaseStore.take` with ``waits`` gives a place in the queue or keeps it,
:meth:`LeaseStore.wait` sleeps until it may be worth asking again, :meth:`LeaseStore.leave` gives the place up. A
place whose owner does not ask again for :data:`PATIENCE` seconds is given up too. Nobody gets past the queue.

A store lives as long as the cache or the session whose connections it uses, and may be shared between threads as
far as that may; :func:`~django_celery_extensions.stores.lease_store` gives each thread its own. It connects when
first used, in the process that uses it, and a forked child connects anew.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django_celery_extensions.records import record
from django_celery_extensions.stores.base import Renewer

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds between two looks of who waits, where no wake-up comes: what a lost one costs at the most.
POLL = 0.5
#: Seconds after which a place in the queue is given up whose owner did not ask again.
PATIENCE = 2.5 * POLL


@record
class LeaseAsk:
    """Somebody who wants to hold ``name``, as one of at most ``most``, for ``lasts`` seconds at a time."""

    name: str
    #: Owner token: random, one for each holding.
    token: str
    #: Who it is, for people who list holders.
    owner: str
    lasts: float
    most: int = 1
    #: Queue for it where it is not free.
    waits: bool = False


@record
class LeaseHolding:
    """A lease as its owner knows it."""

    name: str
    token: str
    fence: int
    most: int = 1
    #: Session that it belongs to, and slot that it has, where the store has such.
    session: str = ""
    slot: int | None = None
    #: Key that it was taken with, where the store has such: a cache's KEY_FUNCTION may go by more than the name, and
    #: by something else in the thread that renews.
    key: str = ""


@record
class Grant:
    """The answer to an ask."""

    #: None: others hold it, or wait for it.
    holding: LeaseHolding | None
    #: Seconds that it lasts from the asking on: what was asked for, or what the store gives.
    lasts: float = 0.0
    #: Seconds after which asking again is worth it, where no wake-up comes before.
    again_in: float = POLL


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One holder, as everybody sees it."""

    name: str
    #: Who it is: task id and host name, or what the holder gave as ``identifier``.
    owner: str
    token: str
    fence: int
    #: Seconds since the epoch, by the store's clock.
    since: float
    #: Seconds until the lease ends unless it is renewed; None where the store does not tell.
    expires_in: float | None


class LeaseStore(Renewer):
    """Leases, by name."""

    #: What is written here is seen by other processes.
    shared: ClassVar[bool]
    #: Several may hold a name at once (``most`` above 1).
    counts: ClassVar[bool]

    @abstractmethod
    def take(self, ask: LeaseAsk) -> Grant:
        """Hold the name, or not: it has ``most`` holders, or somebody queued before.

        Where leases and places belong to a session they last as long as that: :attr:`Grant.lasts` tells.

        One atomic decision. Asking again with the token of a holding gives that holding, armed anew: what was lost
        was perhaps only the answer. Raises :class:`~django_celery_extensions.exceptions.HolderLimitConflict` while
        others hold the name, or wait for it, with another ``most``.
        """

    @abstractmethod
    def wait(self, ask: LeaseAsk, at_most: float) -> None:
        """Sleep until it may be worth asking again, ``at_most`` seconds; may come back early."""

    @abstractmethod
    def leave(self, ask: LeaseAsk) -> None:
        """Be neither holder nor queued any more, as far as this token goes, and let the next one know."""

    @abstractmethod
    def give_back(self, holding: LeaseHolding) -> bool:
        """End the holding, if it is still its owner's, and wake the next in the queue; returns whether it was."""

    @abstractmethod
    def holders(self, name: str) -> Sequence[Holder]:
        """Return who holds the name, the earliest first."""

    @abstractmethod
    def evict(self, holder: Holder) -> bool:
        """End somebody else's holding, and wake the next; its owner finds out when it renews."""
