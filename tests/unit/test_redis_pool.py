"""A connection that is taken out of redis-py's pool by the shorter way is one that redis-py would have given."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py

from django_celery_extensions.stores import redis_command
from django_celery_extensions.stores.redis_command import command
from django_celery_extensions.stores.redis_pool import give_back, idle_connection
from tests.processes import ROOT
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import RedisServer

pytestmark = pytest.mark.skipif(redis_py.VERSION < (6,), reason="older ones are left to their own way")

THREADS = 8


@pytest.fixture
def client(store_server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client that tries nothing again, with one idle connection."""
    with store_server.client(retry=redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 0)) as client:
        client.ping()
        yield client


def given_back(pool: Any, connection: Any) -> None:
    known = redis_command._known()
    assert known is not None
    give_back(pool, connection, known.released)


def test_idle_connection_is_taken_and_goes_back(client: redis_py.Redis) -> None:
    pool = client.connection_pool
    connection = idle_connection(pool)
    assert (pool._in_use_connections, pool._available_connections) == ({connection}, [])
    assert idle_connection(pool) is None
    given_back(pool, connection)
    assert (pool._in_use_connections, pool._available_connections) == (set(), [connection])


def test_connection_that_the_server_has_closed_is_not_used(
    client: redis_py.Redis, redis: redis_py.Redis
) -> None:
    def is_there(address: str) -> bool:
        return any(each["addr"] == address for each in redis.client_list())

    for _ in range(5):
        (ours,) = client.connection_pool._available_connections
        address = "{}:{}".format(*ours._sock.getsockname())
        assert is_there(address)
        redis.client_kill_filter(addr=address)
        wait_until(lambda gone=address: not is_there(gone), what="the server closes it")
        assert command(client, "ECHO", "x") == b"x"


@pytest.mark.parametrize("read", [0, 1], ids=["in the socket", "in the buffer"])
def test_answer_that_nobody_read_is_nobody_elses(client: redis_py.Redis, read: int) -> None:
    pool = client.connection_pool
    connection = pool.get_connection()
    connection.send_packed_command([b"".join(redis_command.pack(["ECHO", word]) or []) for word in "ab"])
    wait_until(
        lambda: len(connection._sock.recv(100, socket.MSG_PEEK)) == len("$1\r\na\r\n") * 2,
        what="both answers",
    )
    for _ in range(read):
        connection.read_response()
    pool.release(connection)
    assert command(client, "ECHO", "mine") == b"mine"


def test_child_does_not_use_the_connections_of_its_parent(client: redis_py.Redis) -> None:
    parent = command(client, "CLIENT", "ID")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not see what _exit ends
        try:
            os.write(writer, json.dumps(command(client, "CLIENT", "ID")).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert int(answer.read()) != parent
    os.waitpid(child, 0)
    assert command(client, "CLIENT", "ID") == parent


def test_no_two_threads_have_the_same_connection(client: redis_py.Redis) -> None:
    together = Barrier(THREADS)

    def ask(thread: int) -> bool:
        together.wait(30)
        words = [f"{thread} {number}" for number in range(200)]
        return [command(client, "ECHO", word) for word in words] == [word.encode() for word in words]

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(ask, range(THREADS)))
    assert len(client.connection_pool._available_connections) <= THREADS
    assert not client.connection_pool._in_use_connections


def test_who_listens_to_the_pool_hears_of_a_connection_given_back(
    client: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py renews the login of an idle connection so."""
    pool, heard = client.connection_pool, []
    monkeypatch.setattr(pool, "_event_dispatcher", SimpleNamespace(dispatch=heard.append))
    (connection,) = pool._available_connections
    assert command(client, "ECHO", "x") == b"x"
    assert [(type(event).__name__, event.connection) for event in heard] == [
        ("AfterConnectionReleasedEvent", connection)
    ]


@pytest.mark.skipif(redis_py.VERSION < (7,), reason="redis-py knows of no such wish")
def test_connection_that_should_be_made_anew_is_not_kept_open(client: redis_py.Redis) -> None:
    """As a server asks for that is about to move."""
    pool = client.connection_pool
    connection = idle_connection(pool)
    connection.mark_for_reconnect()
    given_back(pool, connection)
    assert pool._available_connections == [connection]
    assert connection._sock is None


def test_connection_of_a_pool_that_was_reset_is_forgotten(client: redis_py.Redis) -> None:
    pool = client.connection_pool
    connection = idle_connection(pool)
    pool.reset()
    given_back(pool, connection)
    assert pool._available_connections == []
    assert command(client, "ECHO", "x") == b"x"


def test_most_connections_of_a_pool_are_its_most(store_server: RedisServer) -> None:
    with store_server.client(max_connections=1) as client:
        client.ping()
        taken = idle_connection(client.connection_pool)
        with pytest.raises(redis_py.ConnectionError, match="Too many connections"):
            command(client, "PING")
        client.connection_pool.release(taken)
        assert command(client, "ECHO", "x") == b"x"


@pytest.mark.parametrize("way", ["get_connection", "release"])
def test_who_replaced_a_way_of_the_pool_is_asked(
    client: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    asked = []
    original = getattr(redis_py.ConnectionPool, way)

    def watching(pool: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        return original(pool, *args, **kwargs)

    assert command(client, "ECHO", "x") == b"x"
    monkeypatch.setattr(redis_py.ConnectionPool, way, watching)
    assert command(client, "ECHO", "x") == b"x"
    redis_command._known.cache_clear()  # as it is where somebody replaced it before
    try:
        assert command(client, "ECHO", "x") == b"x"
    finally:
        redis_command._known.cache_clear()
    assert asked == [1, 1]


_MEASURED = """
import sys
import redis
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.observability.config import MetricGroup, OTelConfig
from redis.observability.providers import get_observability_instance
from django_celery_extensions.stores.redis_command import command

client = redis.Redis(port=int(sys.argv[1]))
command(client, "ECHO", "not measured yet")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
get_observability_instance().init(OTelConfig(metric_groups=[MetricGroup.COMMAND]))
for _ in range(3):
    command(client, "ECHO", "x")
(duration,) = [
    metric for resource in reader.get_metrics_data().resource_metrics for scope in resource.scope_metrics
    for metric in scope.metrics if metric.name == "db.client.operation.duration"
]
print({point.attributes["db.operation.name"]: point.count for point in duration.data.data_points})
"""


@pytest.mark.skipif(redis_py.VERSION < (7, 2), reason="it measures nothing by itself")
def test_commands_are_in_the_metrics_of_redis_py(store_server: RedisServer) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(store_server.port)],
        check=True,
        timeout=60,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout == "{'ECHO': 3}\n"
