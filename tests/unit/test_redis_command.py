"""A command by the shorter way is what redis-py would have made of it."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from django_celery_extensions.stores.redis_command import _known_of, command, pack
from tests.processes import ROOT
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = st.lists(
    st.text() | st.text(st.characters(codec="ascii")) | st.integers() | st.binary() | st.just("x" * 7000),
    max_size=5,
)

since_6 = pytest.mark.skipif(redis_py.VERSION < (6,), reason="older ones are left to their own way")
since_5 = pytest.mark.skipif(redis_py.VERSION < (5,), reason="older ones do not take that")


@given(words=WORDS)
def test_it_is_packed_as_by_redis_py_or_left_to_it(words: list[Any]) -> None:
    plain = all(isinstance(word, int) or (isinstance(word, str) and word.isascii()) for word in words)
    packed = pack(["EVALSHA", *words])
    theirs = redis_py.Connection().pack_command("EVALSHA", *words)
    assert packed == ([b"".join(theirs)] if plain else None)


@pytest.mark.parametrize("wrong", [None, True, [1]])
def test_value_that_redis_can_not_have_is_refused(store_server: RedisServer, wrong: Any) -> None:
    with store_server.client() as client, pytest.raises(redis_py.DataError):
        command(client, "SET", "key", wrong)


@pytest.mark.parametrize(
    "words", [("ECHO", "ä"), ("ECHO", b"\xff\n"), ("LPUSH", "k", "x" * 100_000), ("HGET", "text", "x")]
)
@pytest.mark.parametrize(
    "options", [{}, {"decode_responses": True}, pytest.param({"protocol": 3}, marks=since_5)], ids=str
)
def test_answers_are_the_same(
    store_server: RedisServer, redis: redis_py.Redis, words: tuple[Any, ...], options: dict[str, Any]
) -> None:
    def outcome(ask: Callable[..., Any]) -> Any:
        try:
            return ask(*words)
        except (redis_py.ResponseError, UnicodeDecodeError) as exc:
            return repr(exc)

    redis.set("text", "x")
    with store_server.client(**options) as client:
        theirs = outcome(client.execute_command)
        redis.delete("k")
        assert outcome(functools.partial(command, client)) == theirs


@since_6
def test_errors_of_the_server_are_raised_and_leave_the_connection(store_server: RedisServer) -> None:
    with store_server.client() as client:
        for _ in range(3):
            with pytest.raises(redis_py.exceptions.NoScriptError):
                command(client, "EVALSHA", "0" * 40, 0)
        assert command(client, "ECHO", "x") == b"x"
        assert len(client.connection_pool._available_connections) == 1


class Wrapper:
    """A wrapper that says it is what it wraps, as those of wrapt do."""

    def __init__(self, call: Callable[..., Any], wrapped: Any) -> None:
        self._call, self._wrapped = call, wrapped

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else functools.partial(self._call, instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


@pytest.mark.parametrize("how", ["replaced", "wrapped"])
def test_who_watches_the_client_sees_the_command(
    store_server: RedisServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    seen = []
    original = redis_py.Redis.execute_command

    @functools.wraps(original)
    def watching(self: Any, *words: Any, **options: Any) -> Any:
        seen.append(words)
        return original(self, *words, **options)

    with store_server.client() as client:
        command(client, "ECHO", "x")
        monkeypatch.setattr(
            redis_py.Redis, "execute_command", watching if how == "replaced" else Wrapper(watching, original)
        )
        assert command(client, "ECHO", "x") == b"x"
    assert seen == [("ECHO", "x")]


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "latin-1"},
        pytest.param({"single_connection_client": True}, marks=since_5),
        {"max_connections": 3},
    ],
    ids=str,
)
def test_clients_of_other_kinds_are_asked_themselves(
    store_server: RedisServer, redis: redis_py.Redis, options: dict[str, Any]
) -> None:
    with store_server.client(**options) as client:
        plain = "max_connections" in options and redis_py.VERSION >= (6,)
        assert (_known_of(client) is not None) is plain
        redis.set(b"\xe4" if "encoding" in options else "ä", "found")
        assert command(client, "GET", "ä") == b"found"


@since_6
def test_restarted_server_is_asked_again(make_server: Any) -> None:
    server: RedisServer = make_server(RedisServer)
    with server.client() as client:
        assert command(client, "ECHO", "x") == b"x"
        server.restart()
        assert command(client, "ECHO", "y") == b"y"


@since_6
def test_server_that_is_gone_is_tried_as_often_as_by_redis_py(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: RedisServer = make_server(RedisServer)
    tries = []
    connect = redis_py.Connection._connect
    monkeypatch.setattr(redis_py.Connection, "_connect", lambda self: (tries.append(1), connect(self))[1])

    def tried(ask: Callable[..., Any]) -> int:
        server.restart()
        ask("ECHO", "x")
        server.kill()
        before = len(tries)
        with pytest.raises(redis_py.ConnectionError):
            ask("ECHO", "x")
        return len(tries) - before

    with server.client(retry=redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 2)) as client:
        least = 3 if redis_py.VERSION >= (7, 2) else 1  # a pool that can not connect tried once
        assert tried(functools.partial(command, client)) == tried(client.execute_command) >= least
        assert not client.connection_pool._in_use_connections


class Interrupted(BaseException):
    """Raised in the middle of a command."""


@since_6
def test_interrupted_command_leaves_no_answer_behind(store_server: RedisServer) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with store_server.client() as client:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interrupted):
                command(client, "BLPOP", "nothing", 1)
            assert command(client, "ECHO", "x") == b"x"
            assert not client.connection_pool._in_use_connections
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@since_6
def test_answer_that_was_not_waited_for_is_nobody_elses(store_server: RedisServer) -> None:
    def interrupted() -> None:
        raise Interrupted

    with store_server.client() as client:
        client.ping()
        (connection,) = client.connection_pool._available_connections
        connection.read_response = interrupted  # as a soft time limit does between sending and reading
        with pytest.raises(Interrupted):
            command(client, "ECHO", "left behind")
        del connection.read_response
        assert client.execute_command("ECHO", "mine") == b"mine"


def test_redis_is_imported_by_who_uses_it() -> None:
    code = (
        "import sys, django.conf; django.conf.settings.configure();"
        "import django_celery_extensions.task;"
        "sys.exit('redis' in sys.modules or 'kombu.transport.redis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
