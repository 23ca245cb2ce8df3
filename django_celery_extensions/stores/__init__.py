"""Where claims, ignore windows, leases and beat's slots are kept: the Django cache of ``CACHE_NAME``, or ZooKeeper."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.stores.base import ClaimStore
from django_celery_extensions.stores.cache import CacheClaimStore
from django_celery_extensions.stores.cache_leases import CacheLeaseStore
from django_celery_extensions.stores.cache_slots import CacheSlotStore
from django_celery_extensions.stores.leases import LeaseStore
from django_celery_extensions.stores.redis import RedisClaimStore
from django_celery_extensions.stores.redis_client import is_redis
from django_celery_extensions.stores.redis_leases import RedisLeaseStore
from django_celery_extensions.stores.redis_slots import RedisSlotStore
from django_celery_extensions.stores.slots import SlotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from django.core.cache import BaseCache

    from django_celery_extensions.stores.base import Renewer

__all__ = [
    "ClaimStore",
    "LeaseStore",
    "SlotStore",
    "claim_store",
    "kept_in",
    "lease_store",
    "renewer",
    "slot_store",
]


def claim_store(*, eager: bool = False) -> ClaimStore:
    """Return the store of claims; it lives as long as the cache object whose connections it uses.

    Raises :class:`TaskConfigurationError` for a cache that is not there, keeps nothing, or (unless tasks run
    where they are called: ``eager``) is not shared with the workers.
    """
    store: ClaimStore = _store_of_cache("claims", RedisClaimStore, CacheClaimStore, eager=eager)
    return store


def lease_store(*, eager: bool = False) -> LeaseStore:
    """Return the store of leases that ``LOCK_STORE`` names: the cache, or this process's ZooKeeper session.

    Raises :class:`TaskConfigurationError` like :func:`claim_store`, and for an unknown store.
    """
    where = settings.LOCK_STORE
    if where == "zookeeper" and _instead is None:
        return _zookeeper()
    if where not in ("cache", "zookeeper"):
        msg = f"DJANGO_CELERY_EXTENSIONS_LOCK_STORE is {where!r}; it can be 'cache' or 'zookeeper'"
        raise TaskConfigurationError(msg)
    store: LeaseStore = _store_of_cache("leases", RedisLeaseStore, CacheLeaseStore, eager=eager)
    return store


def slot_store(*, eager: bool = False) -> SlotStore:
    """Return the store of beat's slots: always the cache, also where ``LOCK_STORE`` says who leads.

    Raises :class:`TaskConfigurationError` like :func:`claim_store`.
    """
    store: SlotStore = _store_of_cache("slots", RedisSlotStore, CacheSlotStore, eager=eager)
    return store


def renewer(place: str) -> Renewer:
    """Return what renews all that is kept in a place (:attr:`Renewer.place`), for the thread that asks."""
    return claim_store(eager=True) if place == "cache" else _zookeeper()


def _zookeeper() -> LeaseStore:
    # It needs kazoo, which only those have who use it.
    from django_celery_extensions.stores.zookeeper import lease_store as zookeeper_store  # noqa: PLC0415

    return zookeeper_store()


#: Keeps claims and leases instead of the cache that CACHE_NAME names (see :func:`kept_in`).
_instead: BaseCache | None = None


@contextmanager
def kept_in(cache: BaseCache) -> Iterator[None]:
    """Keep the claims and leases of this process in ``cache``, whatever the settings say: for tests."""
    global _instead  # noqa: PLW0603 - also for the heartbeat's thread
    before, _instead = _instead, cache
    try:
        yield
    finally:
        _instead = before


def _store_of_cache(
    what: str,
    on_redis: Callable[[BaseCache], Any],
    elsewhere: Callable[[BaseCache], Any],
    *,
    eager: bool,
) -> Any:
    if _instead is not None:
        return elsewhere(_instead)
    alias, connections = settings.CACHE_NAME, caches._connections  # type: ignore[attr-defined]  # noqa: SLF001 - see _Here
    if _here.connections is not connections:
        _here.connections, _here.stores = connections, {}
    store = _here.stores.get((what, alias, eager))
    if store is None:
        store = _here.stores[what, alias, eager] = _open(what, on_redis, elsewhere, eager=eager)
    return store


class _Here(threading.local):
    """The stores that this thread uses: Django's own way to a cache costs it more than all else that a lock does.

    They are those of the caches that Django makes until it makes others, as its ``override_settings`` has it do.
    """

    def __init__(self) -> None:
        self.connections: object = None
        self.stores: dict[tuple[str, str, bool], Any] = {}


_here = _Here()


def _open(
    what: str,
    on_redis: Callable[[BaseCache], Any],
    elsewhere: Callable[[BaseCache], Any],
    *,
    eager: bool,
) -> Any:
    try:
        cache = caches[settings.CACHE_NAME]
    except InvalidCacheBackendError as exc:
        msg = (
            f"DJANGO_CELERY_EXTENSIONS_CACHE_NAME is {settings.CACHE_NAME!r}, but CACHES has "
            f"{', '.join(map(repr, django_settings.CACHES))} ({exc})"
        )
        raise TaskConfigurationError(msg) from exc
    attribute = f"_django_celery_extensions_{what}"
    store = vars(cache).get(attribute)
    if store is None:
        if isinstance(cache, DummyCache):
            msg = (
                f"the cache {settings.CACHE_NAME!r} is a DummyCache, which keeps no {what}; name a real one in "
                "DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
            )
            raise TaskConfigurationError(msg)
        try:
            store = on_redis(cache) if is_redis(cache) else elsewhere(cache)
        except ModuleNotFoundError as exc:
            if exc.name not in ("redis", "django_redis"):
                raise
            msg = (
                f"the cache {settings.CACHE_NAME!r} needs the package {exc.name!r}, which is not installed; "
                "pip install 'django-celery-extensions[redis]'"
            )
            raise TaskConfigurationError(msg) from exc
        setattr(cache, attribute, store)
    if isinstance(cache, FileBasedCache) and not eager:
        msg = (
            f"the cache {settings.CACHE_NAME!r} is a FileBasedCache, whose add() looks and then writes: two callers "
            "can both get in; name a Redis, Memcached or database cache in DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
        )
        raise TaskConfigurationError(msg)
    if not store.shared and not eager:
        msg = (
            f"the cache {settings.CACHE_NAME!r} is a LocMemCache, which no other process sees; unique tasks, "
            "ignore windows, locks and beat need a shared cache (Redis, Memcached, database) in DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
        )
        raise TaskConfigurationError(msg)
    return store
