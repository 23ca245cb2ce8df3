"""The claim of a running task, and the heartbeat that keeps such claims alive.

A running claim is a lease: its store forgets it one lease length after the last renewal, so that a process
that dies frees its keys soon. One thread per process renews all of them together; it sleeps when there is
nothing to renew and ends when that lasts. A claim is trusted until the start of its last successful renewal
plus the lease length, less a margin, by this process's monotonic clock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from django_celery_extensions.exceptions import LeaseLost, StoreUnavailable
from django_celery_extensions.stores import claim_store

if TYPE_CHECKING:
    from django_celery_extensions.stores.base import Holding

logger = logging.getLogger(__name__)

#: Part of a lease that is not trusted: clocks drift, and a check and the write after it take time.
MARGIN = 0.1
#: A lease is renewed this often within its length.
RENEWALS = 3
#: Seconds between two looks of a heartbeat that has nothing to renew, and how many of them before it ends.
IDLE_SECONDS, IDLE_ROUNDS = 5.0, 12
#: Seconds until a renewal that could not reach the store is tried again.
RETRY_SECONDS = 1.0
#: How often the store must answer before a debt is paid: a command that was in its buffer comes after the first.
PAYMENTS = 2
#: Debts that a process remembers; what is forgotten ends with its stale limit.
MOST_OWED = 1000


class Claim:
    """What the body of a unique task holds: ``self.claim``."""

    def __init__(self, holding: Holding, *, lease: float, stale: float, asked_at: float) -> None:
        self.holding = holding
        self._lease = lease
        self._ends_at = asked_at + stale
        self._lost = False
        self._renewed(asked_at)

    @property
    def fence(self) -> int:
        """A number that is larger for every later holding of the same name."""
        return self.holding.fence

    @property
    def lost(self) -> bool:
        """True once the claim can no longer be trusted; that is final."""
        # Remembered: a renewal that is answered late would make the clock say otherwise again.
        if not self._lost and monotonic() >= self._trusted_until:
            self._lost = True
        return self._lost

    def ensure(self) -> None:
        """Raise :class:`LeaseLost` once the claim can no longer be trusted."""
        if self.lost:
            msg = (
                f"the claim of {self.holding.name} by task {self.holding.task_id} is lost: it was not renewed in "
                "time, went stale, or was taken away"
            )
            raise LeaseLost(msg)

    @property
    def renew_at(self) -> float:
        """Moment (monotonic) of the next renewal."""
        return self._renew_at

    def lasts(self, now: float) -> float:
        """Seconds that a renewal asked for at ``now`` gives the claim: a lease, but not beyond the stale limit."""
        return min(self._lease, self._ends_at - now)

    def renewal(self, asked_at: float, *, kept: bool) -> None:
        """Note the store's answer to a renewal."""
        if kept:
            self._renewed(asked_at)  # also of one that was told to be lost: nobody else may start meanwhile
        else:
            self._lost = True

    def retry_at(self, moment: float) -> None:
        """Put the next renewal off: the store could not be reached."""
        self._renew_at = moment

    def _renewed(self, asked_at: float) -> None:
        lasts = self.lasts(asked_at)
        self._trusted_until = asked_at + lasts * (1 - MARGIN)
        self._renew_at = asked_at + lasts / RENEWALS


@dataclass(frozen=True, kw_only=True)
class _Debt:
    """A claim that may be there, or may yet appear, for a message that was not sent."""

    holding: Holding
    #: Moment (monotonic) of the next try.
    due: float
    #: How often the store has answered.
    paid: int = 0


class Heartbeat:
    """Renews all claims that this process holds."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Also in a forked child: it holds nothing of its parent's, and has no thread.
        self._held: dict[str, Claim] = {}
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._looks_at = 0.0
        self._store_lost = False
        self._owed: deque[_Debt] = deque(maxlen=MOST_OWED)

    def keep(self, claim: Claim) -> None:
        """Renew this claim from now on."""
        with self._wake:
            self._held[claim.holding.token] = claim
            self._ensure_thread(claim.renew_at)

    def drop(self, claim: Claim) -> None:
        """Renew this claim no more."""
        with self._wake:
            self._held.pop(claim.holding.token, None)

    def owe(self, holding: Holding) -> None:
        """Settle this claim of a message that was not sent as soon as the store can be reached.

        A store that did not answer may have made the claim, or may make it yet: the command waits in a buffer.
        Nobody else can have a claim with this task id, so to end it twice does no harm.
        """
        now = monotonic()
        with self._wake:
            self._owed.append(_Debt(holding=holding, due=now + RETRY_SECONDS))
            self._ensure_thread(now + RETRY_SECONDS)

    def _ensure_thread(self, looks_at: float) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._looks_at = looks_at
            self._thread = threading.Thread(
                target=self._run, name="django-celery-extensions-heartbeat", daemon=True
            )
            self._thread.start()
        elif looks_at < self._looks_at:
            self._wake.notify()

    def _run(self) -> None:
        idle_rounds = 0
        while True:
            with self._wake:
                idle_rounds = 0 if self._held or self._owed else idle_rounds + 1
                if idle_rounds > IDLE_ROUNDS:
                    self._thread = None
                    return
                now = monotonic()
                moments = [claim.renew_at for claim in self._held.values()] + [
                    debt.due for debt in self._owed
                ]
                self._looks_at = min(moments, default=now + IDLE_SECONDS)
                if self._looks_at > now:
                    self._wake.wait(self._looks_at - now)
                now = monotonic()
                due = [claim for claim in self._held.values() if claim.renew_at <= now]
                owed = [debt for debt in self._owed if debt.due <= now]
            try:
                if due:
                    self._renew(due, now)
                for debt in owed:
                    self._pay(debt)
            except Exception:
                # Whatever it was, the other claims of this process have to be renewed.
                logger.exception("the heartbeat failed; it goes on")
                time.sleep(RETRY_SECONDS)

    def _pay(self, debt: _Debt) -> None:
        try:
            claim_store(eager=True).settle(debt.holding, unsent=True)
        except StoreUnavailable:
            paid = 0
        else:
            paid = debt.paid + 1
        with self._wake:
            if debt in self._owed:
                self._owed.remove(debt)
                if paid < PAYMENTS:
                    self._owed.append(_Debt(holding=debt.holding, due=monotonic() + RETRY_SECONDS, paid=paid))

    def _renew(self, due: list[Claim], now: float) -> None:
        over = [claim for claim in due if claim.lasts(now) <= 0]
        asked = [claim for claim in due if claim.lasts(now) > 0]
        try:
            kept = (
                claim_store(eager=True).renew([(claim.holding, claim.lasts(now)) for claim in asked])
                if asked
                else []
            )
        except StoreUnavailable as exc:
            if not self._store_lost:
                logger.warning("claims of %d running tasks can't be renewed: %s", len(asked), exc)
            self._store_lost = True
            for claim in asked:
                claim.retry_at(now + RETRY_SECONDS)
            return
        self._store_lost = False
        for claim, still in [*zip(asked, kept, strict=True), *((claim, False) for claim in over)]:
            claim.renewal(now, kept=still)
            if not still:
                self.drop(claim)
                logger.warning(
                    "task %s lost its claim of %s while it runs",
                    claim.holding.task_id,
                    claim.holding.name,
                    extra={"task_id": claim.holding.task_id, "key": claim.holding.name, "fence": claim.fence},
                )


#: The heartbeat of this process.
heartbeat = Heartbeat()
