"""The way of a lease through this process: ask, wait, hold, give back."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import ContextDecorator
from dataclasses import dataclass
from functools import lru_cache, partial
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
    from collections.abc import Sequence
    from datetime import timedelta
    from types import TracebackType

    from celery.app.task import Context
    from typing_extensions import Self

    from django_celery_extensions.stores.leases import LeaseStore

logger = logging.getLogger(__name__)

#: Seconds until somebody who waits asks a store again that could not be reached.
RETRY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants to hold, and how long they would wait for it."""

    name: str
    #: Seconds that it outlives a dead process.
    lasts: float
    most: int = 1
    #: Wait for it, ``timeout`` seconds at most (None: for ever).
    blocking: bool = False
    timeout: float | None = None
    #: Also in a store that only this process sees.
    alone: bool = False


def make_wish(
    kind: str,
    name: str,
    args: Sequence[Any],
    *,
    max_leases: int = 1,
    blocking: bool = False,
    timeout: float | None = None,
    lease_timeout: float | timedelta | None = None,
    alone: bool = False,
) -> Wish:
    """Return the wish for the ``kind`` (lock, semaphore, mutex) ``name``, refined by ``args``.

    Raises :class:`InvalidOption` for options that can't be, or that don't go together.
    """
    if lease_timeout is None:
        lease_timeout, what = settings.LOCK_TIMEOUT, "DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT"
    else:
        what = "lease_timeout"
    options = (max_leases, blocking, timeout, lease_timeout, what, alone)
    for value in args:
        if type(value) not in _PLAIN:  # what is equal to another one may be called otherwise
            return _new_wish(*options, kind, name, *args)
    try:
        return _known_wish(*options, kind, name, *args)
    except TypeError:  # what should be a number or a name is none
        return _new_wish(*options, kind, name, *args)


#: Types of arguments that are called the same when they are equal, and of one type.
_PLAIN = frozenset({str, int, bool, type(None)})


def _new_wish(
    max_leases: int,
    blocking: bool,
    timeout: float | None,
    lease_timeout: float | timedelta,
    what: str,
    alone: bool,
    kind: str,
    name: str,
    *args: Any,
) -> Wish:
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
    lasts = seconds(lease_timeout, what)
    return Wish(name=full_name, lasts=lasts, most=max_leases, blocking=blocking, timeout=timeout, alone=alone)


#: Wishes that were made before: the same locks are taken again and again, and making one takes as long as all else.
_known_wish = lru_cache(maxsize=1024, typed=True)(_new_wish)


def checked(identifier: str | None, name: str) -> str | None:
    """Return what names the holder of ``name`` for people; raises :class:`InvalidOption` for what can't."""
    if identifier is not None and not (identifier and isinstance(identifier, str)):
        msg = f"{name}: identifier is {identifier!r}; give a string that is not empty"
        raise InvalidOption(msg)
    return identifier


class HeldLease(Lease):
    """A lock or a slot of a semaphore that this process holds; it is true.

    ``fence`` is larger than that of every earlier holder: give it to whatever you write to, to be compared there.
    """

    holding: LeaseHolding

    #: Who holds it, for people who list holders.
    owner: str
    _store: LeaseStore
    _thread: int

    def give_back(self) -> None:
        """End it in its store; raises ``StoreUnavailable``. A thread other than its own has a store of its own."""
        store = self._store if get_ident() == self._thread else lease_store(eager=True)
        store.give_back(self.holding)

    @property
    def name(self) -> str:
        """Full name of what is held."""
        return self.holding.name


def acquire(wish: Wish, owner: str | None = None, token: str | None = None) -> HeldLease | None:
    """Hold what is wished for from now on; None where others do, and the time for waiting is over.

    ``owner`` says who it is to people who list holders (this process). ``token`` is the owner token of somebody who
    asks again and again with the same one until there is an answer.

    Who waits bears a store that can't be reached for as long as the lease would last. Raises
    :class:`StoreUnavailable`, and what :meth:`LeaseStore.take` raises.
    """
    store = lease_store(eager=wish.alone)
    ask = LeaseAsk(
        name=wish.name,
        token=os.urandom(16).hex() if token is None else token,
        owner=this_process() if owner is None else owner,
        lasts=wish.lasts,
        most=wish.most,
        waits=wish.blocking,
    )
    try:
        lease = _wait(wish, store, ask) if wish.blocking else _ask(store, ask)
        if lease is None and wish.blocking:
            store.leave(ask)
    except BaseException as exc:
        # It may be held, or queued for, without our knowing; not where asking once was refused. Who asks again with
        # the same token finds out.
        refused = isinstance(exc, (HolderLimitConflict, TaskConfigurationError))
        if token is None and (wish.blocking or not refused):
            heartbeat.owe(partial(_leave, ask))
        raise
    if lease is not None:
        heartbeat.keep(lease)
    return lease


def _ask(store: LeaseStore, ask: LeaseAsk) -> HeldLease | None:
    asked_at = monotonic()
    grant = store.take(ask)
    if grant.holding is None:
        return None
    lease = _granted(grant.holding, grant.lasts, ask, store, asked_at)
    if lease.lost:
        msg = (
            f"the answer that gives {ask.name} came when that was over again: {monotonic() - asked_at:.1f} s"
        )
        raise StoreUnavailable(msg)
    return lease


def _granted(
    holding: LeaseHolding, lasts: float, ask: LeaseAsk, store: LeaseStore, asked_at: float
) -> HeldLease:
    lease = HeldLease(holding, place=store.place, margin=store.margin, length=lasts, asked_at=asked_at)
    lease.owner, lease._store, lease._thread = ask.owner, store, get_ident()  # noqa: SLF001 - made here
    return lease


def _wait(wish: Wish, store: LeaseStore, ask: LeaseAsk) -> HeldLease | None:
    asked_at = answered_at = monotonic()
    deadline = inf if wish.timeout is None else asked_at + wish.timeout
    while True:
        try:
            grant = store.take(ask)
            if grant.holding is not None:
                lease = _granted(grant.holding, grant.lasts, ask, store, asked_at)
                if not lease.lost:
                    return lease
            answered_at = monotonic()
            if grant.holding is None:  # else the answer was late: asking again arms it anew
                left = deadline - answered_at
                if left <= 0:
                    return None
                store.wait(ask, min(grant.again_in, left))
        except StoreUnavailable:
            now = monotonic()
            if now >= min(deadline, answered_at + wish.lasts):
                raise
            time.sleep(max(0.0, min(RETRY_SECONDS, deadline - now)))
        asked_at = monotonic()


class Hold(ContextDecorator):
    """Hold what is wished for during one block: enters with a lease, or False where others hold it.

    No generator: that takes four times as long.
    """

    def __init__(self, wish: Wish, owner: str | None = None) -> None:
        self._wish: Wish | None = wish
        self._owner = owner
        self._lease: HeldLease | None = None

    def __enter__(self) -> HeldLease | Literal[False]:
        wish, self._wish = self._wish, None
        if wish is None:
            msg = "a lock is for one block; make another one for the next"
            raise TaskConfigurationError(msg)
        lease = self._lease = self._acquire(wish, self._owner)
        return lease or False

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            give_back(lease)

    def _recreate_cm(self) -> Self:  # of a decorated function, for each call
        if self._wish is None:
            return self
        return type(self)(self._wish, self._owner)

    def _acquire(self, wish: Wish, owner: str | None) -> HeldLease | None:
        return acquire(wish, owner)


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
    global _this_process  # noqa: PLW0603 - asked for at every lock, and the same until a fork
    if not _this_process:
        _this_process = f"{socket.gethostname()}:{os.getpid()}"
    return _this_process


_this_process = ""


def _forked() -> None:
    global _this_process  # noqa: PLW0603 - see above
    _this_process = ""


os.register_at_fork(after_in_child=_forked)


def run_of(request: Context) -> str:
    """Name the run of a task for them: its id and its worker; a plain call has neither."""
    return f"{request.id} {request.hostname or this_process()}" if request.id else this_process()


def _leave(ask: LeaseAsk) -> None:
    lease_store(eager=True).leave(ask)
