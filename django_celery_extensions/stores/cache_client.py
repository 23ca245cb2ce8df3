"""What all stores on Django's cache API share: errors, lifetimes, and the renewal of everything."""

from __future__ import annotations

from contextlib import contextmanager
from functools import singledispatch
from math import ceil
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.locmem import LocMemCache

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores.base import Renewer
from django_celery_extensions.stores.database import exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.core.cache import BaseCache


@singledispatch
def renew_in(
    holding: Any,
    cache: BaseCache,  # noqa: ARG001 - for the implementations
    lasts: float,  # noqa: ARG001 - likewise
) -> bool:
    """Let a holding last ``lasts`` seconds from now; return whether it was still its owner's."""
    msg = f"nobody knows how to renew {holding!r}"
    raise TypeError(msg)


class CacheStore(Renewer):
    """A store in any Django cache whose ``add`` is atomic."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self.shared = not isinstance(cache, LocMemCache)

    def renew(self, holdings: Sequence[tuple[Any, float]]) -> list[bool]:
        """See :meth:`Renewer.renew`."""
        return [self._renewed(holding, lasts) for holding, lasts in holdings]

    def _renewed(self, holding: Any, lasts: float) -> bool:
        with self.step(holding.name):
            return renew_in(holding, self._cache, lasts)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Make the block one step of the store about a name; no step may be within another.

        Raises :class:`StoreUnavailable` from what the cache raises. In a database cache the step is atomic.
        """
        with translated_errors():
            if isinstance(self._cache, DatabaseCache):
                with exclusive(self._cache, name):
                    yield
            else:
                yield

    def put(self, key: str, value: object, lasts: float) -> bool:
        """Write a value and tell whether it is there."""
        # Read back: somebody may have come between, and Django's database cache swallows errors of writing.
        self._cache.set(key, value, whole(lasts))
        kept: object = self._cache.get(key)
        return kept == value


def whole(lasts: float) -> int:
    """Return a lifetime in whole seconds that is not over before ``lasts``.

    Memcached and Django's database cache cut the moment at which a value ends down to the second, so that one second
    from now can be a moment from now.
    """
    return ceil(lasts) + 1


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise :class:`StoreUnavailable` from whatever a cache raises: every cache library has errors of its own."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as exc:
        msg = f"the cache {settings.CACHE_NAME!r} can't be used: {exc!r}"
        raise StoreUnavailable(msg) from exc
