"""A command of ours is on the wire what redis-py would make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import DataError, ResponseError

from django_celery_extensions.stores import redis_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.servers import RedisServer

WORDS: list[tuple[Any, ...]] = [
    ("PING",),
    ("SET", "key", ""),
    ("SET", "key", "é漢 字\r\n$1"),
    ("SET", "key", b"\x00\xff\r\n"),
    ("SET", "key", 0),
    ("SET", "key", -(10**18)),
    ("SET", "key", "x" * 100_000),
]


class Text(str):
    """As django-redis makes of keys."""

    __slots__ = ()


@pytest.fixture
def client(store_server: RedisServer) -> Iterator[Redis]:
    with store_server.client() as found:
        yield found


@pytest.mark.parametrize("words", WORDS, ids=lambda words: repr(words)[:40])
def test_packed_as_redis_py_does(client: Redis, words: tuple[Any, ...]) -> None:
    with client.client() as own:
        connection = own.connection
        assert connection is not None
        assert redis_command._packed(words) == b"".join(connection.pack_command(*words))
    assert redis_command.command(client, *words)


def test_what_is_no_plain_value_is_left_to_redis_py(client: Redis) -> None:
    redis_command.command(client, "SET", Text("key"), 1.5)
    assert redis_command.command(client, "GET", "key") == b"1.5"
    for wrong in (None, True, [1]):
        with pytest.raises(DataError):
            redis_command.command(client, "SET", "key", wrong)
    assert redis_command.command(client, "GET", "key") == b"1.5"


def test_encoding_of_a_connection_is_kept(store_server: RedisServer) -> None:
    with store_server.client(encoding="latin-1", decode_responses=True) as client:
        redis_command.command(client, "SET", "key", "é")
        assert redis_command.command(client, "GET", "key") == client.get("key") == "é"
    with store_server.client() as client:
        assert client.get("key") == b"\xe9"


def test_error_of_the_server_leaves_the_connection_in_order(client: Redis) -> None:
    for _ in range(3):
        with pytest.raises(ResponseError):
            redis_command.command(client, "NOTHING")
        assert redis_command.command(client, "ECHO", "words") == b"words"
