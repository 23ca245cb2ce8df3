"""Stores that are down, or refuse to write."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Holding, Unsent, Verdict
from tests.servers import MemcachedServer, RedisServer, ValkeyServer
from tests.servers_postgresql import PostgreSQLServer
from tests.unit.stores import (
    NO_PYLIBMC,
    ON_REDIS,
    REDIS,
    database_cache,
    memcached_options,
    redis_options,
    sqlite_settings,
    use_cache,
)
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.base import ClaimStore
    from tests.conftest import MakeServer
    from tests.servers import Server

FREE, HELD = Verdict.FREE, Verdict.HELD


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


STEPS: dict[str, Callable[[ClaimStore], Any]] = {
    "admit": lambda store: store.admit(ask("A", window=True)),
    "start": lambda store: store.start(ask("A", "t", window=True)),
    "settle": lambda store: store.settle(Holding(name="n", task_id="A", token="t"), 60),
    "renew": lambda store: store.renew([(Holding(name="n", task_id="A", token="t"), 60.0)]),
    "requeue": lambda store: store.requeue(Holding(name="n", task_id="A", token="t"), 60.0),
    "admit_many": lambda store: store.admit_many([ask("A"), ask("B")]),
    "withdraw_many": lambda store: store.withdraw_many([Unsent(name="n", task_id="A")]),
    "open_window": lambda store: store.open_window("n", "A", 60),
    "holding": lambda store: store.holding("n"),
    "forget": lambda store: store.forget("n"),
}


@contextlib.contextmanager
def served(name: str, make_server: MakeServer, settings: SettingsWrapper) -> Iterator[Server]:
    """A store with a server of its own."""
    server: Server
    if name in REDIS:
        server = make_server(ValkeyServer if ON_REDIS[name][1] == "valkey_server" else RedisServer)
        use_cache(settings, redis_options(name, server.url))
    elif name == "postgresql":
        server = make_server(PostgreSQLServer)
        with database_cache(settings, server.settings(connections.settings["default"])):
            yield server
        return
    else:
        if name == "pylibmc":
            pytest.importorskip("pylibmc", reason=NO_PYLIBMC)
        server = make_server(MemcachedServer)
        options = {"retry_attempts": 0, "dead_timeout": 0} if name == "memcached" else {}
        use_cache(settings, memcached_options(name, server.url, **options))
    yield server


@pytest.mark.parametrize("name", [*REDIS, "memcached", "pylibmc", "postgresql"])
def test_store_that_is_down_is_unavailable_and_comes_back(
    make_server: MakeServer, settings: SettingsWrapper, name: str, django_db_blocker: Any
) -> None:
    with django_db_blocker.unblock(), served(name, make_server, settings) as server:
        store = claim_store(eager=True)
        store.admit(ask("A"))
        server.kill()
        for step in STEPS.values():
            with pytest.raises(StoreUnavailable, match="claims"):
                step(store)
        server.restart()
        if name == "pylibmc":  # it believes in an outage for two seconds
            wait_until(lambda: answers(store), timeout=5)
        answers(store)  # a pooled connection may be found broken once
        assert store.admit(ask("B", name="other")).verdict is FREE


def answers(store: ClaimStore) -> bool:
    with contextlib.suppress(StoreUnavailable):
        store.holding("n")
        return True
    return False


@pytest.mark.xfail(
    strict=True, reason="pylibmc's first read from a server that failed is told that nothing is there"
)
def test_first_read_of_pylibmc_from_a_server_that_is_down(
    make_server: MakeServer, settings: SettingsWrapper
) -> None:
    with served("pylibmc", make_server, settings) as server:
        claim_store().admit(ask("A"))
        server.kill()
        with pytest.raises(StoreUnavailable):
            claim_store().holding("n")


def _unless(step: str) -> Any:
    fail_closed = ("admit", "admit_many", "start", "settle", "open_window")
    reason = "pymemcache's HashClient answers like an empty cache for a second after an error (retry_timeout)"
    marks = () if step in fail_closed else pytest.mark.xfail(strict=True, reason=reason)
    return pytest.param(step, marks=marks)


@pytest.mark.parametrize("step", [*map(_unless, STEPS), _unless("look at the window")])
def test_memcached_that_is_down_is_unavailable_as_django_configures_it(
    make_server: MakeServer, settings: SettingsWrapper, step: str
) -> None:
    server = make_server(MemcachedServer)
    use_cache(settings, memcached_options("memcached", server.url))
    store = claim_store()
    server.kill()
    take = STEPS.get(step, lambda store: store.admit(ask("A", claim=None, window=True)))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            take(store)


@pytest.mark.parametrize("name", REDIS)
def test_store_that_never_was_there_is_unavailable(settings: SettingsWrapper, name: str) -> None:
    use_cache(settings, redis_options(name, "redis://127.0.0.1:1/0"))
    store = claim_store()
    for step in STEPS.values():
        with pytest.raises(StoreUnavailable):
            step(store)


def test_server_that_refuses_writes_is_unavailable(
    make_server: MakeServer, settings: SettingsWrapper
) -> None:
    server = make_server(RedisServer, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
    use_cache(settings, redis_options("django-redis", server.url))
    with pytest.raises(StoreUnavailable, match="OOM|[Mm]emory"):
        claim_store().admit(ask())


# the database


@pytest.fixture
def locked(
    settings: SettingsWrapper, tmp_path: Path, django_db_blocker: Any
) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """A store in a SQLite file; what is called locks the file against its writes."""
    path = tmp_path / "claims.sqlite3"

    @contextlib.contextmanager
    def lock() -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    with django_db_blocker.unblock(), database_cache(settings, sqlite_settings(path)):
        with connections["claims"].cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 1")
        yield lock


def test_locked_database_admits_nobody(locked: Any) -> None:
    with locked(), pytest.raises(StoreUnavailable):
        claim_store().admit(ask("A"))


def test_start_that_could_not_be_written_is_not_free(locked: Any) -> None:
    store = claim_store()
    store.admit(ask("A"))
    with locked(), pytest.raises(StoreUnavailable):
        store.start(ask("A", "t"))


def test_window_that_could_not_be_written_is_told(locked: Any) -> None:
    with locked(), pytest.raises(StoreUnavailable):
        claim_store().open_window("n", "A", 60)
