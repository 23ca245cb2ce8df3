"""Locks through Django's cache API, for caches that are not Redis.

Only ``add`` is atomic in most of them, so a name has one holder; several at once are refused. Ending or renewing a lock
reads it and then writes: if it ended by its time limit in between, within the moment between two commands, and
somebody else took it, that one's lock is ended or prolonged. In a database cache each step is a transaction
(:mod:`~django_celery_extensions.stores.database`), and nothing comes in between. Its fence is the last one of that name + 1, or the clock of the
machine that takes it where that is more. Who waits looks twice a second, and in no order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django_celery_extensions import keys
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores.cache_client import CacheStore, renew_in, whole
from django_celery_extensions.stores.leases import Grant, Holder, LeaseAsk, LeaseHolding, LeaseStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.cache import BaseCache

#: How often a lock that is there for ``add`` and gone for ``get`` is believed to have just ended.
_ATTEMPTS = 5
#: Seconds that the last fence of a name is remembered after its last lock.
_KEPT = 3600.0


class CacheLeaseStore(CacheStore, LeaseStore):
    """Locks as values of any Django cache whose ``add`` is atomic."""

    counts = False

    def take(self, ask: LeaseAsk) -> Grant:
        """See :meth:`LeaseStore.take`; raises :class:`TaskConfigurationError` where several may hold the name."""
        if ask.most != 1:
            msg = (
                f"{ask.name}: a semaphore needs Redis or ZooKeeper, and the cache {settings.CACHE_NAME!r} is a "
                f"{type(self._cache).__name__}; use a lock, or name a Redis cache in "
                "DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
            )
            raise TaskConfigurationError(msg)
        key = _key(ask.name)
        with self.step(ask.name):
            for _ in range(_ATTEMPTS):
                since = time.time()
                value = (ask.token, since, ask.owner, 0)
                if self._cache.add(key, value, whole(ask.lasts)):
                    return self._taken(ask, since, 0)
                held = self._cache.get(key)
                if held is not None:
                    return self._taken(ask, held[1], held[3]) if held[0] == ask.token else Grant(holding=None)
        msg = f"the cache {settings.CACHE_NAME!r} does not keep {ask.name}"
        raise StoreUnavailable(msg)

    def _taken(self, ask: LeaseAsk, since: float, fence: int) -> Grant:
        # Nobody else writes the fence while this token holds the name.
        last_key = keys.lease_key(ask.name) + ":fence"
        if not fence:
            fence = max((self._cache.get(last_key) or 0) + 1, time.time_ns() // 1000)
        if not self.put(last_key, fence, ask.lasts + _KEPT) or not self.put(
            _key(ask.name), (ask.token, since, ask.owner, fence), ask.lasts
        ):
            msg = f"the cache {settings.CACHE_NAME!r} does not keep {ask.name}"
            raise StoreUnavailable(msg)
        return Grant(holding=LeaseHolding(name=ask.name, token=ask.token, fence=fence), lasts=ask.lasts)

    def wait(self, ask: LeaseAsk, at_most: float) -> None:  # noqa: ARG002 - nobody is told here
        """See :meth:`LeaseStore.wait`."""
        time.sleep(at_most)

    def leave(self, ask: LeaseAsk) -> None:
        """See :meth:`LeaseStore.leave`."""
        self._end(ask.name, ask.token)

    def give_back(self, holding: LeaseHolding) -> bool:
        """See :meth:`LeaseStore.give_back`."""
        return self._end(holding.name, holding.token)

    def evict(self, holder: Holder) -> bool:
        """See :meth:`LeaseStore.evict`."""
        return self._end(holder.name, holder.token)

    def holders(self, name: str) -> Sequence[Holder]:
        """See :meth:`LeaseStore.holders`."""
        with self.step(name):
            held = self._cache.get(_key(name))
        if held is None:
            return []
        token, since, owner, fence = held
        return [Holder(name=name, owner=owner, token=token, fence=fence, since=since, expires_in=None)]

    def _end(self, name: str, token: str) -> bool:
        with self.step(name):
            held = self._cache.get(_key(name))
            if held is None or held[0] != token:
                return False
            self._cache.delete(_key(name))
            return True


def _key(name: str) -> str:
    return keys.lease_key(name) + ":holder"


@renew_in.register(LeaseHolding)
def _renew_lease(holding: LeaseHolding, cache: BaseCache, lasts: float) -> bool:
    held = cache.get(_key(holding.name))
    if held is None or held[0] != holding.token:
        return False
    return bool(cache.touch(_key(holding.name), whole(lasts)))
