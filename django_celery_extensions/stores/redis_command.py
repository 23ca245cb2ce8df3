"""One command through a client of redis-py, for two thirds of what redis-py's own way costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

from django_celery_extensions.stores.redis_pool import give_back, idle_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def command(client: Any, *words: Any) -> Any:
    """Do what ``client.execute_command`` does for a command whose answer needs no work (EVALSHA, LPUSH).

    redis-py's own way also counts and times, and knows commands and caches that this is not about. It is taken for
    clients of another kind, and where somebody watches them: redis-py's own metrics, or tracing, which replaces its
    functions.
    """
    known = _known_of(client)
    packed = None if known is None else pack(words)
    if known is None or packed is None:
        return client.execute_command(*words)
    pool = client.connection_pool
    shortly = known.has_pool(pool)
    connection = (idle_connection(pool) if shortly else None) or pool.get_connection()
    try:
        try:
            connection.send_packed_command(packed)
            return connection.read_response()
        except Exception as exc:  # noqa: BLE001 - redis-py knows which it tries again
            return _try_again(connection, packed, exc)
    except known.refused:
        raise
    except BaseException:
        connection.disconnect()  # its answer, which may yet come, is nobody else's
        raise
    finally:
        if shortly:
            give_back(pool, connection, known.released)
        else:
            pool.release(connection)


def _try_again(connection: Any, packed: Sequence[bytes], failed: Exception) -> Any:
    """Go on as redis-py does after a first try that failed, or raise its error."""
    errors = [failed]

    def ask() -> Any:
        if errors:
            raise errors.pop()
        connection.send_packed_command(packed)
        return connection.read_response()

    return connection.retry.call_with_retry(ask, lambda _: connection.disconnect())


def pack(words: Sequence[Any]) -> list[bytes] | None:
    """Return a command as it goes to the server: each word with its length before it; None: redis-py shall do it."""
    parts = [f"*{len(words)}"]
    for word in words:
        if type(word) is str:
            parts += f"${len(word)}", word
        elif type(word) is int:
            number = str(word)
            parts += f"${len(number)}", number
        else:
            return None
    parts.append("")
    text = "\r\n".join(parts)
    return [text.encode()] if text.isascii() else None  # the length is that of the bytes


def _known_of(client: Any) -> _Known | None:
    """Return what is known of a client's redis-py, None where it is of another kind, or somebody takes note."""
    known = _known() if type(client).__module__ == "redis.client" else None
    if known is None or type(client) is not known.client or type(client.connection_pool) not in known.pools:
        return None
    pool = client.connection_pool
    plain = (
        client.connection is None
        and known.client.execute_command is known.execute
        and pool.connection_class.send_packed_command is known.send
        and pool.connection_class.read_response is known.read
        and getattr(pool, "cache", None) is None
        and pool.connection_kwargs.get("encoding", "utf-8") == "utf-8"
        and not known.is_measured()
    )
    return known if plain else None


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What redis-py wrote: its client, its pools, and functions of the client, of a connection and of a pool."""

    client: Any
    pools: tuple[Any, ...]
    execute: Any
    send: Any
    read: Any
    #: ``get_connection`` and ``release`` of the first of the pools.
    get: Any
    release: Any
    #: The event that tells of a connection which was given back.
    released: Any
    #: The errors that are the answer to a command.
    refused: type[Exception]
    #: Tells whether redis-py itself counts and times commands.
    is_measured: Callable[[], bool]

    def has_pool(self, pool: Any) -> bool:
        """Tell whether a pool keeps its idle connections, and gives them out and takes them back, as is known."""
        kind = self.pools[0]
        return type(pool) is kind and kind.get_connection is self.get and kind.release is self.release


@cache
def _known() -> _Known | None:
    import redis  # noqa: PLC0415 - only for who has a client of it

    if redis.VERSION < (6,):  # from there on the connection alone knows what it tries again, and how often
        return None
    from redis.event import AfterConnectionReleasedEvent  # noqa: PLC0415 - likewise

    return _Known(
        client=redis.Redis,
        pools=(redis.ConnectionPool, redis.BlockingConnectionPool),
        execute=_as_written(redis.Redis, "execute_command"),
        send=_as_written(redis.Connection, "send_packed_command"),
        read=_as_written(redis.Connection, "read_response"),
        # The pool of a later version may keep its connections otherwise.
        get=_as_written(redis.ConnectionPool, "get_connection") if redis.VERSION < (9,) else None,
        release=_as_written(redis.ConnectionPool, "release"),
        released=AfterConnectionReleasedEvent,
        refused=redis.ResponseError,
        is_measured=_measured(),
    )


def _as_written(owner: type, name: str) -> Any:
    """Return a function of redis-py, None where somebody has put another one in its place."""
    function = layer = getattr(owner, name)
    # By type and module of each layer: the wrappers of tracing libraries say that they are the function they wrap.
    while layer is not None:
        if type(layer) is not FunctionType or not layer.__globals__["__name__"].startswith("redis."):
            return None
        layer = getattr(layer, "__wrapped__", None)
    return function


def _measured() -> Callable[[], bool]:
    try:
        from redis.observability.recorder import is_enabled  # noqa: PLC0415 - since redis-py 7.2
    except ImportError:
        return lambda: False
    return is_enabled
