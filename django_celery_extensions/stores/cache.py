"""Claims and ignore windows through Django's cache API, for caches that are not Redis.

In a database cache each step is a transaction (:mod:`~django_celery_extensions.stores.database`), and atomic. In others
only ``add`` is. What remains there, and what comes of it:

- *Taking over* (``replace``, a retry, the start of a task) reads the claim and then writes it. If the claim
  ends in between and a third task takes it, that one's claim is overwritten: both tasks may run.
- *Ending* a claim reads it and then deletes it. If it went stale in between and another task took it, that
  one's claim is deleted.

Both need a claim to end by its time limit within the moment between two commands. Everywhere lifetimes are rounded up
to whole seconds, and a cache that evicts what it was given (Memcached out of memory, a
database cache over MAX_ENTRIES) forgets claims. pymemcache answers like an empty cache for a second after its
server failed (``retry_timeout``): a window or a claim is not seen in that second.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from django_celery_extensions import keys
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores.base import Answer, Ask, ClaimStore, Holding, Unsent, Verdict
from django_celery_extensions.stores.cache_client import CacheStore, renew_in, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.cache import BaseCache

    #: Task, token, fence, tokens that gave it back; the moment (seconds since the epoch) until which it is queued.
    _Claim = tuple[str, str, int, str, float]
    #: Who took the claim of a task; the moment until which this is known; whether the task was told so at its start.
    _Mark = tuple[str, float, bool]

#: How often a claim that is there for ``add`` and gone for ``get`` is believed to have just ended.
_ATTEMPTS = 5
#: How many that replaced one another are looked through for the last one: two that write at once may make a circle.
_LINKS = 100


class CacheClaimStore(CacheStore, ClaimStore):
    """Claims and windows as values of any Django cache whose ``add`` is atomic."""

    atomic = False

    def admit(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.admit`."""
        with self.step(ask.name):
            opened_by = self._window(ask)
            if opened_by is not None:
                return Answer(verdict=Verdict.WINDOW, task_id=opened_by)
            return self._take(ask)

    def start(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.start`."""
        with self.step(ask.name):
            opened_by = self._window(ask)
            if opened_by is not None:
                held = _read(self._cache, ask.name)
                if held is not None and _owned(held, ask):
                    self._cache.delete(keys.claim_key(ask.name))
                return Answer(verdict=Verdict.WINDOW, task_id=opened_by)
            if ask.claim is None:
                return Answer(verdict=Verdict.FREE)
            held = _read(self._cache, ask.name)
            if held is None or not _owned(held, ask):
                newest = self._told_of_newest(ask)
                if newest is not None and held is not None and held.task_id != ask.task_id:
                    newest = held.task_id
                elif newest == ask.follows:
                    newest = None
                if newest is not None:
                    return Answer(verdict=Verdict.HELD, task_id=newest)
            answer = self._take(ask)
            if ask.until_start and answer.verdict is Verdict.FREE:
                self._cache.delete(keys.claim_key(ask.name))
            return answer

    def settle(self, holding: Holding, window: float | None = None, *, lost: bool = False) -> bool:
        """See :meth:`ClaimStore.settle`."""
        with self.step(holding.name):
            held = _read(self._cache, holding.name)
            mine = (
                held is not None
                and held.task_id == holding.task_id
                and (
                    held.token == holding.token
                    or (lost and not held.token and holding.token not in held.by.split())
                )
            )
            if mine:
                self._cache.delete(keys.claim_key(holding.name))
            if window is not None:
                self._open_window(holding.name, holding.task_id, window)
            return mine

    def withdraw_many(self, calls: Sequence[Unsent]) -> list[bool]:
        """See :meth:`ClaimStore.withdraw_many`; of what it replaced only ``replaced`` is found."""
        return [self._withdraw(call) for call in calls]

    def _withdraw(self, call: Unsent) -> bool:
        key, mark_key = keys.claim_key(call.name), self._replaced_key(call.name, call.replaced)
        with self.step(call.name):
            held = _read(self._cache, call.name)
            mark: _Mark | None = self._cache.get(mark_key) if call.replaced else None
            if mark is not None and mark[0] == call.task_id:
                self._cache.delete(mark_key)
            else:
                mark = None
            if held is None or (held.task_id, held.token) != (call.task_id, ""):
                return False
            if mark is None or mark[2]:
                self._cache.delete(key)
                return True
            fence = max(time.time_ns() // 1000, held.fence + 1)
            return self.put(key, (call.replaced, "", fence, "", _until(call.stale)), call.stale)

    def requeue(self, holding: Holding, lasts: float) -> bool:
        """See :meth:`ClaimStore.requeue`."""
        with self.step(holding.name):
            held = _read(self._cache, holding.name)
            if held is None or held.task_id != holding.task_id:
                return False
            if held.token != holding.token and (held.token or held.by.split()[-1:] != [holding.token]):
                return False
            value = (holding.task_id, "", held.fence, _given_back(held, holding.token), _until(lasts))
            return self.put(keys.claim_key(holding.name), value, lasts)

    def open_window(self, name: str, task_id: str, window: float) -> None:
        """See :meth:`ClaimStore.open_window`."""
        with self.step(name):
            self._open_window(name, task_id, window)

    def holding(self, name: str) -> Holding | None:
        """See :meth:`ClaimStore.holding`."""
        with self.step(name):
            return _read(self._cache, name)

    def forget(self, name: str) -> None:
        """See :meth:`ClaimStore.forget`."""
        with self.step(name):
            self._cache.delete_many([keys.claim_key(name), self._window_key(name)])

    def _take(self, ask: Ask) -> Answer:
        if ask.claim is None:
            return Answer(verdict=Verdict.FREE)
        key = keys.claim_key(ask.name)
        timeout, until = whole(ask.claim), _until(ask.claim)
        fence = time.time_ns() // 1000
        for _ in range(_ATTEMPTS):
            if self._cache.add(key, (ask.task_id, ask.token, fence, ask.proof, until), timeout):
                return Answer(verdict=Verdict.FREE, fence=fence)
            value = self._cache.get(key)
            if value is None:
                continue
            held = _holding(ask.name, value)
            if not _owned(held, ask) and not (ask.replace and not held.token):
                busy = ask.token and held.task_id == ask.task_id
                verdict = Verdict.BUSY if busy else Verdict.HELD
                return Answer(verdict=verdict, task_id=held.task_id)
            fence = max(fence, held.fence + 1)
            replaced = held.task_id != ask.task_id
            if replaced:
                self._mark(ask.name, held.task_id, (ask.task_id, max(until, value[4]), False))
                self._cache.delete(self._replaced_key(ask.name, ask.task_id))
            by = held.by if ask.token else ask.proof
            if ask.proof and not replaced:
                by = _given_back(held, ask.proof)
            if self.put(key, (ask.task_id, ask.token, fence, by, until), ask.claim):
                return Answer(verdict=Verdict.FREE, task_id=held.task_id, fence=fence)
            ask = replace(ask, replace=False)  # somebody came between, and is the newer one
        msg = f"the cache {settings.CACHE_NAME!r} does not keep the claim of {ask.name}"
        raise StoreUnavailable(msg)

    def _window(self, ask: Ask) -> str | None:
        if not ask.window:
            return None
        opened_by: str | None = self._cache.get(self._window_key(ask.name))
        return opened_by

    def _open_window(self, name: str, task_id: str, window: float) -> None:
        if not self.put(self._window_key(name), task_id, window):
            msg = f"the cache {settings.CACHE_NAME!r} does not keep the ignore window of {name}"
            raise StoreUnavailable(msg)

    def _told_of_newest(self, ask: Ask) -> str | None:
        """Return the last one that took the claim of a task, None where nobody did; note that the task was told."""
        mark: _Mark | None = self._cache.get(self._replaced_key(ask.name, ask.task_id))
        if mark is None:
            return None
        newest, until, told = mark
        if not told:
            self._mark(ask.name, ask.task_id, (newest, until, True))
        for _ in range(_LINKS):
            mark = self._cache.get(self._replaced_key(ask.name, newest))
            if mark is None:
                break
            newest = mark[0]
        return newest

    def _mark(self, name: str, task_id: str, mark: _Mark) -> None:
        self._cache.set(self._replaced_key(name, task_id), mark, whole(max(0.0, mark[1] - time.time())))

    def _replaced_key(self, name: str, task_id: str) -> str:
        return f"{keys.replaced_key(name)}:{task_id}"

    def _window_key(self, name: str) -> str:
        return keys.window_key(settings.IGNORE_TASK_KEY_PREFIX, name)


def _owned(held: Holding, ask: Ask) -> bool:
    if ask.patient and not held.token and held.by:
        return False
    return held.task_id == ask.task_id and held.token in ("", ask.token, ask.proof)


def _given_back(held: Holding, token: str) -> str:
    """Return who gave a claim back to the queue, the last twenty, with one more."""
    tokens = held.by.split()
    return " ".join([*tokens[-19:], token] if tokens[-1:] != [token] else tokens)


def _read(cache: BaseCache, name: str) -> Holding | None:
    value = cache.get(keys.claim_key(name))
    return None if value is None else _holding(name, value)


def _holding(name: str, value: _Claim) -> Holding:
    task_id, token, fence, by, _ = value
    return Holding(name=name, task_id=task_id, token=token, fence=fence, by=by)


def _until(lasts: float) -> float:
    """Return the moment so many seconds from now, for other processes."""
    return time.time() + lasts


@renew_in.register(Holding)
def _renew_claim(holding: Holding, cache: BaseCache, lasts: float) -> bool:
    held = _read(cache, holding.name)
    if held is None or (held.task_id, held.token) != (holding.task_id, holding.token):
        return False
    return bool(cache.touch(keys.claim_key(holding.name), whole(lasts)))
