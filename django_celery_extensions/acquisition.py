"""The way of a lease through this process: ask, wait, hold, give back."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import (
    HolderLimitConflict,
    InvalidOption,
    StoreUnavailable,
    TaskConfigurationError,
)
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.keys import lease_name
from django_celery_extensions.leases import Lease
from django_celery_extensions.stores import lease_store
from django_celery_extensions.stores.leases import LeaseAsk, LeaseHolding
from django_celery_extensions.timing import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from celery.app.task import Context

    from django_celery_extensions.stores.leases import Grant, LeaseStore

logger = logging.getLogger(__name__)

#: Seconds until somebody who waits asks a store again that could not be reached.
RETRY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants to hold, and how long they would wait for it."""

    name: str
    owner: str
    #: Seconds that it outlives a dead process.
    lasts: float
    most: int = 1
    #: Wait for it, ``timeout`` seconds at most (None: for ever).
    blocking: bool = False
    timeout: float | None = None
    #: Also in a store that only this process sees.
    alone: bool = False
    #: Owner token of somebody who asks again and again with the same one until there is an answer; None: a new one.
    token: str | None = None


def make_wish(
    kind: str,
    name: str,
    args: Sequence[Any],
    *,
    max_leases: int = 1,
    blocking: bool = False,
    timeout: float | None = None,
    identifier: str | None = None,
    lease_timeout: float | timedelta | None = None,
    alone: bool = False,
) -> Wish:
    """Return the wish for the ``kind`` (lock, semaphore, mutex) ``name``, refined by ``args``.

    Raises :class:`InvalidOption` for options that can't be, or that don't go together.
    """
    full_name = lease_name(kind, name, args)
    if type(max_leases) is not int or max_leases < 1:
        msg = f"{full_name}: max_leases is {max_leases!r}; give a whole number, 1 or more"
        raise InvalidOption(msg)
    if timeout is not None:
        if not blocking:
            msg = f"{full_name}: timeout is how long to wait, and nobody waits without blocking=True"
            raise InvalidOption(msg)
        if type(timeout) not in (int, float) or not timeout >= 0:
            msg = f"{full_name}: timeout is {timeout!r}; give a number of seconds, 0 or more, or None to wait for ever"
            raise InvalidOption(msg)
    if identifier is not None and not (identifier and isinstance(identifier, str)):
        msg = f"{full_name}: identifier is {identifier!r}; give a string that is not empty"
        raise InvalidOption(msg)
    if lease_timeout is None:
        lasts = seconds(settings.LOCK_TIMEOUT, "DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT")
    else:
        lasts = seconds(lease_timeout, "lease_timeout")
    return Wish(
        name=full_name,
        owner=this_process() if identifier is None else identifier,
        lasts=lasts,
        most=max_leases,
        blocking=blocking,
        timeout=timeout,
        alone=alone,
    )


class HeldLease(Lease):
    """A lock or a slot of a semaphore that this process holds; it is true.

    ``fence`` is larger than that of every earlier holder: give it to whatever you write to, to be compared there.
    """

    holding: LeaseHolding

    def __init__(self, wish: Wish, store: LeaseStore, grant: Grant, asked_at: float) -> None:
        super().__init__(
            grant.holding,
            place=store.place,
            margin=store.margin,
            length=grant.lasts,
            asked_at=asked_at,
        )
        #: Who holds it, for people who list holders.
        self.owner = wish.owner
        self._store, self._thread = store, get_ident()

    def give_back(self) -> None:
        """End it in its store; raises ``StoreUnavailable``. A thread other than its own has a store of its own."""
        store = self._store if get_ident() == self._thread else lease_store(eager=True)
        store.give_back(self.holding)

    @property
    def name(self) -> str:
        """Full name of what is held."""
        return self.holding.name


def acquire(wish: Wish) -> HeldLease | None:
    """Hold what is wished for from now on; None where others do, and the time for waiting is over.

    Who waits bears a store that can't be reached for as long as the lease would last. Raises
    :class:`StoreUnavailable`, and what :meth:`LeaseStore.take` raises.
    """
    store = lease_store(eager=wish.alone)
    ask = LeaseAsk(
        name=wish.name,
        token=os.urandom(16).hex() if wish.token is None else wish.token,
        owner=wish.owner,
        lasts=wish.lasts,
        most=wish.most,
        waits=wish.blocking,
    )
    try:
        lease = _wait(wish, store, ask) if wish.blocking else _ask(wish, store, ask)
        if lease is None and wish.blocking:
            store.leave(ask)
    except BaseException as exc:
        # It may be held, or queued for, without our knowing; not where asking once was refused. Who asks again with
        # the same token finds out.
        refused = isinstance(exc, (HolderLimitConflict, TaskConfigurationError))
        if wish.token is None and (wish.blocking or not refused):
            heartbeat.owe(partial(_leave, ask))
        raise
    if lease is not None:
        heartbeat.keep(lease)
    return lease


def _ask(wish: Wish, store: LeaseStore, ask: LeaseAsk) -> HeldLease | None:
    asked_at = monotonic()
    grant = store.take(ask)
    if grant.holding is None:
        return None
    lease = HeldLease(wish, store, grant, asked_at)
    if lease.lost:
        msg = (
            f"the answer that gives {wish.name} came when that was over again: {monotonic() - asked_at:.1f} s"
        )
        raise StoreUnavailable(msg)
    return lease


def _wait(wish: Wish, store: LeaseStore, ask: LeaseAsk) -> HeldLease | None:
    answered_at = monotonic()
    deadline = inf if wish.timeout is None else answered_at + wish.timeout
    while True:
        try:
            asked_at = monotonic()
            grant = store.take(ask)
            answered_at = monotonic()
            if grant.holding is not None:
                lease = HeldLease(wish, store, grant, asked_at)
                if not lease.lost:
                    return lease
                continue  # the answer was late: asking again arms it anew
            left = deadline - monotonic()
            if left <= 0:
                return None
            store.wait(ask, min(grant.again_in, left))
        except StoreUnavailable:
            now = monotonic()
            if now >= min(deadline, answered_at + wish.lasts):
                raise
            time.sleep(max(0.0, min(RETRY_SECONDS, deadline - now)))


@contextmanager
def held(lease: HeldLease | None) -> Iterator[HeldLease | Literal[False]]:
    """Yield a lease and give it back at the end of the block; yield False where there is none."""
    if lease is None:
        yield False
        return
    try:
        yield lease
    finally:
        give_back(lease)


def give_back(lease: HeldLease) -> None:
    """Hold it no more, and let the next one have it; never raises because of the store, which forgets it by itself."""
    heartbeat.drop(lease)
    try:
        lease.give_back()
    except StoreUnavailable as exc:
        heartbeat.owe(lease.give_back)
        logger.warning(
            "%s stays until the store is back, or it ends by itself: %s", lease, exc, extra=lease.log_extra
        )


def this_process() -> str:
    """Name this process for people who list holders."""
    return f"{socket.gethostname()}:{os.getpid()}"


def run_of(request: Context) -> str:
    """Name the run of a task for them: its id and its worker; a plain call has neither."""
    return f"{request.id} {request.hostname or this_process()}" if request.id else this_process()


def _leave(ask: LeaseAsk) -> None:
    lease_store(eager=True).leave(ask)
