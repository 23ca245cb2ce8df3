"""Who leads beat: one of many processes, by a lease; the others look now and then whether it is free."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Any

from celery.utils import uuid

from django_celery_extensions.acquisition import Wish, acquire, give_back, this_process
from django_celery_extensions.config import PREFIX, settings
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.keys import lease_name
from django_celery_extensions.stores import lease_store
from django_celery_extensions.stores.leases import LeaseAsk
from django_celery_extensions.stores.slots import Leader
from django_celery_extensions.timing import seconds

if TYPE_CHECKING:
    from django_celery_extensions.acquisition import HeldLease

logger = logging.getLogger(__name__)


class State(Enum):
    """What a beat does, as far as people are told."""

    STARTING = "starts"
    LEADING = "leads"
    STANDING_BY = "stands by"
    #: It does not fire because the store can't be used.
    WAITING = "waits for the store"
    #: It holds the lease, and its slots are those of a leader with a larger fence.
    REFUSED = "is refused"


class Leadership:
    """The part that this process has in the leadership of a beat. Tells each change once."""

    def __init__(self) -> None:
        self.name = beat_name()
        self.lasts, self.pause = durations()
        #: Somebody else has led since this was set to False.
        self.others_led = True
        self._state = State.STARTING
        self._lease: HeldLease | None = None
        self._token = uuid()
        self._asked = False

    @property
    def leader(self) -> Leader:
        """Under what name, and by what fence, this process leads."""
        if self._lease is None:
            msg = f"{self.name} is not led by this process"
            raise StoreUnavailable(msg)
        return Leader(name=self.name, place=self._lease.place, fence=self._lease.fence)

    @property
    def held(self) -> bool:
        """Tell whether the lease can be trusted right now."""
        return self._lease is not None and not self._lease.lost

    def look(self) -> bool:
        """Tell whether this process leads; asks for the leadership where it does not."""
        if self._lease is not None and self._lease.lost:
            self.step_down("its lease was not renewed in time, or was taken away")
        if self._lease is None:
            self._lease = self._ask()
        return self._lease is not None

    def _ask(self) -> HeldLease | None:
        wish = Wish(name=self.name, lasts=self.lasts)
        self._asked = True
        try:
            lease = acquire(wish, token=self._token)
        except StoreUnavailable as exc:
            self.trouble(exc)
            return None
        if lease is None:
            self.others_led = True
            self._tell(State.STANDING_BY, "another one leads")
        return lease

    def leads(self) -> None:
        """Note that it has done what a leader does: the store is there."""
        if self._lease is not None:
            self._tell(State.LEADING, f"fence {self._lease.fence}")

    def trouble(self, exc: Exception) -> None:
        """Note that the store can't be used."""
        self._tell(State.WAITING, str(exc))

    def refused(self) -> None:
        """Note that the store of slots has seen a larger fence than that of the lease which this process holds."""
        why = (
            "somebody with a larger fence has led; if that is over, as the store of leases has lost its data and "
            f"its fences begin anew, choose another {PREFIX}BEATER_LOCK_KEY"
        )
        self._tell(State.REFUSED, why)

    def step_down(self, why: str) -> None:
        """Lead no more, give the lease back, and stand by."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if self._state is State.LEADING:
            self._tell(State.STANDING_BY, why)
        self._give_back(lease)

    def resign(self) -> None:
        """Let the next one lead at once: this process ends."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._give_back(lease)
        elif self._asked and self._state is State.WAITING:
            # It may have got the lease without being told.
            ask = LeaseAsk(name=self.name, token=self._token, owner=this_process(), lasts=self.lasts)
            try:
                lease_store().leave(ask)
            except StoreUnavailable as exc:
                logger.debug("%s could not be asked for: %s", self.name, exc)
        self._asked = False
        self._state = State.STARTING

    def _give_back(self, lease: HeldLease) -> None:
        # What could not be given back is given back later: by then the token must not be that of a new holding.
        self._token = uuid()
        give_back(lease)

    @property
    def _log_extra(self) -> dict[str, Any]:
        return {"key": self.name} if self._lease is None else self._lease.log_extra

    def _tell(self, state: State, detail: str) -> None:
        before, self._state = self._state, state
        if before is state:
            return
        ordinary = before is State.STARTING or (before, state) == (State.STANDING_BY, State.LEADING)
        level = logging.INFO if ordinary and state in (State.LEADING, State.STANDING_BY) else logging.WARNING
        logger.log(level, "beat %s %s: %s", self.name, state.value, detail, extra=self._log_extra)


def beat_name() -> str:
    """Return the name of the beat: of its lease, of its slots, and in the ids of its tasks."""
    return lease_name("beat", settings.BEATER_LOCK_KEY, ())


def durations() -> tuple[float, float]:
    """Return how long the lease lasts, and how often a standby looks, in seconds.

    Raises :class:`TaskConfigurationError` unless the lease lasts longer.
    """
    lasts = seconds(settings.LOCK_TIMEOUT, PREFIX + "LOCK_TIMEOUT")
    pause = seconds(settings.LOCK_SLEEP, PREFIX + "LOCK_SLEEP")
    if pause >= lasts:
        msg = (
            f"{PREFIX}LOCK_SLEEP is {settings.LOCK_SLEEP!r} and {PREFIX}LOCK_TIMEOUT is {settings.LOCK_TIMEOUT!r}: "
            "beat must look more often than its lease lasts"
        )
        raise TaskConfigurationError(msg)
    return lasts, pause
