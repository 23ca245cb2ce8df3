"""What a live process holds and keeps renewing: until when it may be trusted.

A lease ends by itself one length after its last renewal, so that a process that dies frees what it held. It is
trusted until the start of its last successful renewal plus its length, less a margin, by this process's
monotonic clock: the answer to a renewal may have been late, the renewal itself was not.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any

from django_celery_extensions.exceptions import LeaseLost

#: A lease is renewed this often within its length.
RENEWALS = 3


class Lease:
    """A holding, and how long this process may believe in it."""

    #: Moment (monotonic) of the next renewal, and from when on it may be had along with others.
    renew_at: float
    renew_from: float

    def __init__(
        self,
        holding: Any,
        *,
        place: str,
        margin: float,
        length: float,
        asked_at: float,
        ends_at: float = inf,
    ) -> None:
        self.holding = holding
        #: Where it is kept: see :attr:`Renewer.place`.
        self.place = place
        self._margin = margin
        self._length = length
        self._ends_at = ends_at
        self._lost = False
        #: The heartbeat's number of it, while that keeps it.
        self.number = 0
        self._renewed(asked_at)

    @property
    def fence(self) -> int:
        """The fencing token: a number that grows with each holder of the same name."""
        fence: int = self.holding.fence
        return fence

    @property
    def lost(self) -> bool:
        """Whether the lease is lost. Once True, it stays True."""
        # Remembered: a renewal that is answered late would make the clock say otherwise again.
        if not self._lost and monotonic() >= self._trusted_until:
            self._lost = True
        return self._lost

    def ensure(self) -> None:
        """Raise :class:`LeaseLost` if the lease is lost."""
        if self.lost:
            msg = f"{self} is lost: it was not renewed in time, or was taken away"
            raise LeaseLost(msg)

    def __str__(self) -> str:
        return f"the lease of {self.holding.name}"

    @property
    def log_extra(self) -> dict[str, Any]:
        """What a log line about it carries."""
        return {"key": self.holding.name, "fence": self.fence}

    def lasts(self, now: float) -> float:
        """Seconds that a renewal asked for at ``now`` gives it: its length, but not beyond its end."""
        return min(self._length, self._ends_at - now)

    def renewal(self, asked_at: float, *, kept: bool) -> None:
        """Note the store's answer to a renewal."""
        if kept:
            self._renewed(asked_at)  # also of one that was told to be lost: nobody else may start meanwhile
        else:
            self._lost = True

    def retry_at(self, moment: float) -> None:
        """Put the next renewal off: the store could not be reached."""
        self.renew_at = moment

    def _renewed(self, asked_at: float) -> None:
        lasts = self._length if self._ends_at == inf else self.lasts(asked_at)
        self._trusted_until = asked_at + lasts * (1 - self._margin)
        self.renew_at = asked_at + lasts / RENEWALS
        self.renew_from = asked_at + lasts / RENEWALS / 2
