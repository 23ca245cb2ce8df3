"""Claims and ignore windows on Redis: one Lua script, one round trip, for each step.

The client is the cache's own (django-redis, Django's RedisCache, django-valkey), and so are its pool,
KEY_PREFIX, KEY_FUNCTION and VERSION. Claims are Redis hashes, windows are strings.
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.redis import RedisCache

from django_celery_extensions import keys
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores.base import Answer, Ask, ClaimStore, Holding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.core.cache import BaseCache

_THIRD_PARTY = ("django_redis.", "django_valkey.")


def is_redis(cache: BaseCache) -> bool:
    """Tell whether a Django cache keeps its data in Redis or Valkey."""
    return isinstance(cache, RedisCache) or any(
        base.__module__.startswith(_THIRD_PARTY) for base in type(cache).__mro__
    )


def client_of(cache: Any) -> Any:
    """Return the client of a Redis cache that writes go to, on the cache's own connection pool."""
    if isinstance(cache, RedisCache):
        return cache._cache.get_client(None, write=True)  # noqa: SLF001 - Django has no public way
    try:
        return cache.client.get_client(write=True)
    except NotImplementedError as exc:
        msg = (
            f"{type(cache.client).__name__} spreads its keys over servers that know nothing of each other; "
            "point DJANGO_CELERY_EXTENSIONS_CACHE_NAME at a cache with one server, Sentinel or Cluster"
        )
        raise TaskConfigurationError(msg) from exc


class Script:
    """A Lua script beside this module, sent by its hash and in full only to a server that lacks it."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[str], args: Sequence[object]) -> Any:
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except Exception as exc:
            if type(exc).__name__ != "NoScriptError":  # redis-py's or valkey-py's
                raise
        return client.eval(self.text, len(keys), *keys, *args)


_ADMIT, _START, _SETTLE, _RENEW = map(Script, ("admit", "start", "settle", "renew"))


class RedisClaimStore(ClaimStore):
    """Claims and windows in the Redis behind a Django cache."""

    atomic = True
    shared = True

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self._client = client_of(cache)

    def admit(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.admit`."""
        args = (ask.task_id, _ms(ask.claim), _flag(ask.window), _flag(ask.replace), ask.proof)
        with _translated_errors():
            return _answer(_ADMIT(self._client, self._keys(ask.name), args))

    def start(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.start`."""
        flags = (_flag(ask.window), _flag(ask.until_start), _flag(ask.patient))
        args = (ask.task_id, ask.token, _ms(ask.claim), *flags)
        with _translated_errors():
            return _answer(_START(self._client, self._keys(ask.name), args))

    def settle(
        self, holding: Holding, window: float | None = None, *, unsent: bool = False, lost: bool = False
    ) -> bool:
        """See :meth:`ClaimStore.settle`."""
        args = (holding.task_id, holding.token, _ms(window), _flag(unsent), _flag(lost))
        with _translated_errors():
            return bool(_SETTLE(self._client, self._keys(holding.name), args))

    def renew(self, holdings: Sequence[tuple[Holding, float]]) -> list[bool]:
        """See :meth:`ClaimStore.renew`; all in one pipeline."""
        with _translated_errors(), self._client.pipeline(transaction=False) as pipe:
            for holding, lasts in holdings:
                # In full: a pipeline can't answer a missing script, and renewals are rare.
                args = (holding.task_id, holding.token, _ms(lasts))
                pipe.eval(_RENEW.text, 1, self._claim_key(holding.name), *args)
            return [bool(kept) for kept in pipe.execute()]

    def open_window(self, name: str, task_id: str, window: float) -> None:
        """See :meth:`ClaimStore.open_window`."""
        with _translated_errors():
            self._client.set(self._window_key(name), task_id, px=_ms(window))

    def holding(self, name: str) -> Holding | None:
        """See :meth:`ClaimStore.holding`."""
        with _translated_errors():
            task_id, token, fence = self._client.hmget(self._claim_key(name), "task", "token", "fence")
        if task_id is None:
            return None
        return Holding(name=name, task_id=_text(task_id), token=_text(token), fence=int(fence))

    def forget(self, name: str) -> None:
        """See :meth:`ClaimStore.forget`."""
        with _translated_errors():
            self._client.delete(*self._keys(name))

    def _keys(self, name: str) -> tuple[str, str, str]:
        return self._claim_key(name), self._window_key(name), self._replaced_key(name)

    def _claim_key(self, name: str) -> str:
        return str(self._cache.make_key(keys.claim_key(name)))

    def _replaced_key(self, name: str) -> str:
        return str(self._cache.make_key(keys.replaced_key(name)))

    def _window_key(self, name: str) -> str:
        return str(self._cache.make_key(keys.window_key(settings.IGNORE_TASK_KEY_PREFIX, name)))


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        # By name: the cache's library may be redis-py or valkey-py, and neither is a dependency.
        names = {base.__name__ for base in type(exc).__mro__}
        if not names & {"RedisError", "ValkeyError", "OSError"}:
            raise
        msg = f"the Redis behind the cache {settings.CACHE_NAME!r} can't be used: {exc!r}"
        raise StoreUnavailable(msg) from exc


def _answer(reply: Sequence[Any]) -> Answer:
    verdict, task_id, fence = reply
    return Answer(verdict=Verdict(_text(verdict)), task_id=_text(task_id), fence=int(fence))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _ms(duration: float | None) -> int | str:
    return "" if duration is None else max(1, round(duration * 1000))


def _flag(value: bool) -> str:
    return "1" if value else ""
