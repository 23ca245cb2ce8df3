"""Where claims and ignore windows are kept: the Django cache named by ``CACHE_NAME``."""

from __future__ import annotations

from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.stores.base import ClaimStore
from django_celery_extensions.stores.cache import CacheClaimStore
from django_celery_extensions.stores.redis import RedisClaimStore, is_redis

__all__ = ["ClaimStore", "claim_store"]

_ATTRIBUTE = "_django_celery_extensions_store"


def claim_store(*, eager: bool = False) -> ClaimStore:
    """Return the store of claims; it lives as long as the cache object whose connections it uses.

    Raises :class:`TaskConfigurationError` for a cache that is not there, keeps nothing, or (unless tasks run
    where they are called: ``eager``) is not shared with the workers.
    """
    try:
        cache = caches[settings.CACHE_NAME]
    except InvalidCacheBackendError as exc:
        msg = (
            f"DJANGO_CELERY_EXTENSIONS_CACHE_NAME is {settings.CACHE_NAME!r}, but CACHES has "
            f"{', '.join(map(repr, django_settings.CACHES))} ({exc})"
        )
        raise TaskConfigurationError(msg) from exc
    store: ClaimStore | None = vars(cache).get(_ATTRIBUTE)
    if store is None:
        if isinstance(cache, DummyCache):
            msg = (
                f"the cache {settings.CACHE_NAME!r} is a DummyCache, which keeps no claims; name a real one in "
                "DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
            )
            raise TaskConfigurationError(msg)
        store = RedisClaimStore(cache) if is_redis(cache) else CacheClaimStore(cache)
        setattr(cache, _ATTRIBUTE, store)
    if isinstance(cache, FileBasedCache) and not eager:
        msg = (
            f"the cache {settings.CACHE_NAME!r} is a FileBasedCache, whose add() looks and then writes: two callers "
            "can both get a claim; name a Redis, Memcached or database cache in DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
        )
        raise TaskConfigurationError(msg)
    if not store.shared and not eager:
        msg = (
            f"the cache {settings.CACHE_NAME!r} is a LocMemCache, which no other process sees; unique tasks and "
            "ignore windows need a shared cache (Redis, Memcached, database) in DJANGO_CELERY_EXTENSIONS_CACHE_NAME"
        )
        raise TaskConfigurationError(msg)
    return store
