"""What all stores on Redis share: the cache's own client, scripts, errors, and the renewal of everything at once."""

from __future__ import annotations

from contextlib import contextmanager
from functools import singledispatch
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import BaseCache, default_key_func
from django.core.cache.backends.redis import RedisCache

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores.base import Renewer
from django_celery_extensions.stores.redis_command import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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


def is_one_server(client: Any) -> bool:
    """Tell whether all keys are on one server: a script may take as many of them as it likes."""
    return not hasattr(client, "keyslot")  # redis-py's and valkey-py's client of a cluster


class Script:
    """A Lua script beside this module, sent by its hash and in full only to a server that lacks it.

    Its text is that of the files it is made of, one after the other: Redis knows no other way to share a function.
    """

    def __init__(self, *names: str) -> None:
        folder = files(__package__).joinpath("lua")
        self.text = "".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[str], args: Sequence[object]) -> Any:
        """Run it in the store; raises :class:`StoreUnavailable` for the errors of the client library."""
        try:
            return self.run(client, keys, args)
        except Exception as exc:
            if is_client_error(exc):
                raise _unavailable(exc) from exc
            raise

    def run(self, client: Any, keys: Sequence[str], args: Sequence[object]) -> Any:
        """Run it; errors are those of the client library."""
        try:
            return command(client, "EVALSHA", self.sha, len(keys), *keys, *args)
        except Exception as exc:
            if not _is_missing(exc):
                raise
        return client.eval(self.text, len(keys), *keys, *args)

    def many(self, client: Any, calls: Iterable[tuple[Sequence[str], Sequence[object]]]) -> list[Any]:
        """Run the script for each ``(keys, args)``, in order and in one pipeline; errors are as those of :meth:`run`."""
        calls = list(calls)
        if len(calls) == 1:
            return [self.run(client, *calls[0])]
        # In full once: the server has it for all that follow. Not so in a cluster, where each key has its server.
        replies = self._pipelined(client, calls, in_full=1)
        again = [number for number, reply in enumerate(replies) if _is_missing(reply)]
        if again:
            found = self._pipelined(client, [calls[number] for number in again], in_full=len(again))
            for number, reply in zip(again, found, strict=True):
                replies[number] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _pipelined(
        self, client: Any, calls: Sequence[tuple[Sequence[str], Sequence[object]]], in_full: int
    ) -> list[Any]:
        with client.pipeline(transaction=False) as pipe:
            for number, (keys, args) in enumerate(calls):
                how = ("EVAL", self.text) if number < in_full else ("EVALSHA", self.sha)
                # By its name: the pipeline of a cluster has no eval().
                pipe.execute_command(*how, len(keys), *keys, *args)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            return replies


def _is_missing(reply: object) -> bool:
    return type(reply).__name__ == "NoScriptError"  # redis-py's or valkey-py's


@singledispatch
def renewal(
    holding: Any,
    make_key: Callable[[str], str],  # noqa: ARG001 - for the implementations
    lasts: float,  # noqa: ARG001 - likewise
) -> tuple[Script, Sequence[str], Sequence[object]]:
    """Return what lets a holding last ``lasts`` seconds from now: script, keys, arguments; it answers 1 or 0."""
    msg = f"nobody knows how to renew {holding!r}"
    raise TypeError(msg)


def _kept(reply: Any) -> bool:
    if not isinstance(reply, Exception):
        return bool(reply)
    # Somebody has put something else there: the other holdings must not end of it.
    if "WRONGTYPE" in str(reply):
        return False
    raise reply


class RedisStore(Renewer):
    """A store in the Redis behind a Django cache."""

    shared = True

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self._client = client_of(cache)
        default = type(cache).make_key is BaseCache.make_key and cache.key_func is default_key_func
        #: How Django's own way begins each key.
        self._start = f"{cache.key_prefix}:{cache.version}:" if default else None

    def renew(self, holdings: Sequence[tuple[Any, float]]) -> list[bool]:
        """See :meth:`Renewer.renew`; all in one pipeline."""
        # In full once, as a pipeline can't answer a missing script: the server has it for all that follow. Where
        # somebody takes it from the server just then, the heartbeat tries again soon.
        known: set[str] = set()
        everywhere = is_one_server(self._client)
        with translated_errors(), self._client.pipeline(transaction=False) as pipe:
            for holding, lasts in holdings:
                script, keys, args = renewal(holding, self.key, lasts)
                command = ("EVALSHA", script.sha) if script.sha in known else ("EVAL", script.text)
                if everywhere:
                    known.add(script.sha)
                # By its name: the pipeline of a cluster has no eval().
                pipe.execute_command(*command, len(keys), *keys, *args)
            return [_kept(reply) for reply in pipe.execute(raise_on_error=False)]

    def key(self, key: str) -> str:
        """Return the key as Redis knows it: with the cache's prefix and version."""
        return str(self._cache.make_key(key)) if self._start is None else self._start + key


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise :class:`StoreUnavailable` from the errors of the client library."""
    try:
        yield
    except Exception as exc:
        if not is_client_error(exc):
            raise
        raise _unavailable(exc) from exc


def _unavailable(exc: Exception) -> StoreUnavailable:
    # Not its repr, which says in redis-py 8 of what kind an error is, and not what has happened.
    why = f"{type(exc).__name__}: {exc}"
    return StoreUnavailable(f"the Redis behind the cache {settings.CACHE_NAME!r} can't be used: {why}")


def is_client_error(exc: Exception) -> bool:
    """Tell whether an error says that Redis could not be used."""
    # By name: the cache's library may be redis-py or valkey-py, and neither is a dependency.
    names = {base.__name__ for base in type(exc).__mro__}
    return bool(names & {"RedisError", "ValkeyError", "OSError"})


def text(value: bytes | str) -> str:
    """Return what a client answered as text, whether or not it decodes responses."""
    return value.decode() if isinstance(value, bytes) else value


def ms(duration: float | None) -> int | str:
    """Return seconds as a script takes them: whole milliseconds, empty for none."""
    return "" if duration is None else max(1, round(duration * 1000))


def flag(value: bool) -> str:
    """Return a truth value as a script takes it."""
    return "1" if value else ""
