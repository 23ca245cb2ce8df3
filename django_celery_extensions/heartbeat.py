"""The heartbeat that keeps the leases of this process alive: its locks, and the claims of what it runs.

One thread per process renews all of them together. A process that never held anything has none, and while nothing is
held it sleeps until it is woken. It also pays debts: what a store that did not answer may hold for us, and nobody wants
any more.

Most leases are given back before they have to be renewed: keeping and dropping one is an entry in a dict, without a
lock, and wakes nobody as long as the thread looks early enough.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING
from weakref import ref

from django.db import connections

from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores import renewer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django_celery_extensions.leases import Lease

logger = logging.getLogger(__name__)

#: Seconds until a renewal that could not reach the store is tried again.
RETRY_SECONDS = 1.0
#: How often the store must answer before a debt is paid: a command that was in its buffer comes after the first.
PAYMENTS = 2
#: Debts that a process remembers; what is forgotten ends with its stale limit or its lease.
MOST_OWED = 1000


@dataclass(frozen=True, kw_only=True)
class _Debt:
    """Something that may be in a store, or may yet appear there, and that nobody wants."""

    #: Takes it away; may be called again after that; raises ``StoreUnavailable`` where it can't know.
    pay: Callable[[], object]
    #: Moment (monotonic) of the next try.
    due: float
    #: Seconds between two tries.
    pause: float
    #: How often the store has answered.
    paid: int = 0


class Heartbeat:
    """Renews all leases that this process holds."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Also in a forked child: it holds nothing of its parent's, and has no thread.
        # Weak: a lease whose holder was stopped between taking it and holding it ends by itself. Numbers are never
        # used again, unlike what id() returns: what is dropped is that lease and no other.
        self._held: dict[int, ref[Lease]] = {}
        self._numbers = count(1)
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        #: Moment (monotonic) at which the thread looks again; inf while there is nothing to look at, while it can't
        #: know, as it makes up its mind, and while there is no thread. It says so before it looks at what is held: who
        #: adds to that and then reads a moment that is early enough has been seen, or will be.
        self._looks_at = inf
        self._lost_stores: set[str] = set()
        self._owed: deque[_Debt] = deque(maxlen=MOST_OWED)

    def keep(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        lease.number = number = next(self._numbers)
        self._held[number] = ref(lease)
        if lease.renew_at < self._looks_at:
            with self._wake:
                self._look_at(lease.renew_at)

    def drop(self, lease: Lease) -> None:
        """Renew this lease no more."""
        self._held.pop(lease.number, None)

    def held(self) -> list[Lease]:
        """Return what is renewed."""
        found = []
        for number, reference in self._held.copy().items():
            lease = reference()
            if lease is None:
                self._held.pop(number, None)
            else:
                found.append(lease)
        return found

    def owe(self, pay: Callable[[], object], *, pause: float = RETRY_SECONDS) -> None:
        """Call ``pay`` as soon as its store can be reached: look for it every ``pause`` seconds.

        A store that did not answer may have made what was asked for, or may make it yet: the command waits in a
        buffer. So it is called again after it could be paid, and must do no harm then.
        """
        now = monotonic()
        with self._wake:
            self._owed.append(_Debt(pay=pay, due=now + pause, pause=pause))
            self._look_at(now + pause)

    def _look_at(self, moment: float) -> None:
        # With the lock.
        if moment >= self._looks_at:
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="django-celery-extensions-heartbeat", daemon=True
            )
            try:
                self._thread.start()
            except BaseException:
                self._thread = None
                raise
        self._looks_at = moment
        self._wake.notify()

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            with self._wake:
                if self._thread is threading.current_thread():
                    self._thread, self._looks_at = None, inf

    def _go_on(self) -> None:
        while True:
            with self._wake:
                self._sleep()
                now = monotonic()
                due = self._due(now)
                owed = next((debt for debt in self._owed if debt.due <= now), None)
            if not due and owed is None:
                continue  # woken to look earlier, or what it was to look at has been given back
            try:
                self._work(due, owed)
            except Exception:
                # Whatever it was, the other leases of this process have to be renewed.
                logger.exception("the heartbeat failed; it goes on")
                time.sleep(RETRY_SECONDS)

    def _sleep(self) -> None:
        # With the lock. Nobody is waited for where there is nothing to renew or pay: whoever keeps a lease then wakes
        # it. It looks at the moment for which it was woken also where that lease has been given back by now: so the
        # many that come and go until then need not wake it again.
        asked, self._looks_at = self._looks_at, inf
        moments = [lease.renew_at for lease in self.held()] + [debt.due for debt in self._owed]
        now = monotonic()
        if asked > now:
            moments.append(asked)
        self._looks_at = min(moments, default=inf)
        if self._looks_at == inf:
            self._wake.wait()
        elif self._looks_at > now:
            self._wake.wait(self._looks_at - now)

    def _work(self, due: Mapping[str, Sequence[Lease]], owed: _Debt | None) -> None:
        try:
            for place, leases in due.items():
                self._renew(place, leases)
            if owed is not None:  # one at a time: leases must be renewed between them
                self._pay(owed)
        finally:
            connections.close_all()  # of this thread: a database cache opens one, and nobody else closes it

    def _due(self, now: float) -> dict[str, list[Lease]]:
        held = self.held()
        due: dict[str, list[Lease]] = {lease.place: [] for lease in held if lease.renew_at <= now}
        for lease in held:
            # Along with one that is due, so that leases of one length go together from now on.
            if lease.renew_from <= now and lease.place in due:
                due[lease.place].append(lease)
        return due

    def _pay(self, debt: _Debt) -> None:
        paid = PAYMENTS  # whatever error comes, it would be the same the next time
        try:
            debt.pay()
            paid = debt.paid + 1
        except StoreUnavailable:
            paid = 0
        finally:
            with self._wake:
                if debt in self._owed:
                    self._owed.remove(debt)
                    if paid < PAYMENTS:
                        self._owed.append(replace(debt, due=monotonic() + debt.pause, paid=paid))

    def _renew(self, place: str, due: Sequence[Lease]) -> None:
        now = monotonic()
        over = [lease for lease in due if lease.lasts(now) <= 0]
        asked = [lease for lease in due if lease.lasts(now) > 0]
        try:
            wanted = [(lease.holding, lease.lasts(now)) for lease in asked]
            kept = renewer(place).renew(wanted) if wanted else []
        except StoreUnavailable as exc:
            if place not in self._lost_stores:
                logger.warning("%d leases of this process can't be renewed: %s", len(asked), exc)
            self._lost_stores.add(place)
            for lease in asked:
                lease.retry_at(now + RETRY_SECONDS)
            return
        self._lost_stores.discard(place)
        for lease, still in [*zip(asked, kept, strict=True), *((lease, False) for lease in over)]:
            lease.renewal(now, kept=still)
            if not still:
                self._lose(lease)

    def _lose(self, lease: Lease) -> None:
        if self._held.pop(lease.number, None) is None:
            return  # given back while the store was asked
        logger.warning("%s was lost while it was needed", lease, extra=lease.log_extra)


#: The heartbeat of this process.
heartbeat = Heartbeat()
