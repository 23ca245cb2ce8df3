"""Claims and locks in Django's database cache: processes at once, and transactions of the caller's."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import threading
import unittest
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.test import TestCase

from django_celery_extensions import locks
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores import claim_store, lease_store
from django_celery_extensions.stores.base import Answer, Ask, Holding, Verdict
from django_celery_extensions.stores.leases import LeaseAsk
from tests.project import tasks
from tests.unit.stores import (
    DATABASE,
    DATABASES,
    Backend,
    close_what_this_thread_opened,
    database_cache,
    extra_database,
    opened,
    sqlite_settings,
)
from tests.unit.test_stores_under_fire import race
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from tests.servers_postgresql import PostgreSQLServer
    from tests.unit.conftest import Queue

FREE, HELD = Verdict.FREE, Verdict.HELD
PROCESSES, ROUNDS = 2, 20


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


@pytest.fixture(params=DATABASES)
def kept(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    """A database cache in the database `claims`, on each kind of it."""
    with opened(request.param, request, settings) as found:
        yield found


@pytest.fixture
def in_postgresql(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    with opened("postgresql", request, settings) as found:
        yield found


@pytest.fixture
def in_sqlite(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    with opened("sqlite", request, settings) as found:
        yield found


def elsewhere(step: Callable[[], Any]) -> Any:
    """Take a step in a thread of its own, which has connections of its own; it is to return before we go on."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(step())
        except BaseException as exc:
            answers.append(exc)
        finally:
            close_what_this_thread_opened()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert answers, "it waits for us"
    return answers[0]


# processes


def admit_together(env: dict[str, str], barrier: Any, answers: Any) -> None:
    """Run in a process of its own: for each name, all processes want its claim and its lock at once."""
    os.environ.update(env)
    import django

    django.setup()
    me = str(os.getpid())
    for number in range(2 * ROUNDS):
        barrier.wait(60)
        free = claim_store().admit(ask(me, name=f"n{number}")).verdict is FREE
        lock = LeaseAsk(name=f"n{number}", token=me, owner=me, lasts=60.0)
        answers.put((number, free, lease_store().take(lock).holding is not None))
    close_what_this_thread_opened()


def test_one_of_two_processes_gets_the_claim_and_one_the_lock(in_postgresql: Backend) -> None:
    """Half of the names were held before, by something that has died."""
    shortest = in_postgresql.shortest
    for number in range(ROUNDS):
        in_postgresql.store.start(ask("dead", "t", name=f"n{number}", claim=shortest))
        lease_store().take(LeaseAsk(name=f"n{number}", token="dead", owner="", lasts=shortest))
    in_postgresql.let_end()
    entry = {**connections["claims"].settings_dict, "TEST": {}}
    cache = {"BACKEND": DATABASE, "LOCATION": "claims_table"}
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASES": json.dumps({"default": entry}, default=str),
        "TEST_CACHES": json.dumps({"default": cache}),
    }
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=admit_together, args=(env, barrier, answers), daemon=True)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    winners = {number: [0, 0] for number in range(2 * ROUNDS)}
    for _ in range(PROCESSES * 2 * ROUNDS):
        number, claimed, locked = answers.get(timeout=60)
        winners[number][0] += claimed
        winners[number][1] += locked
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert winners == {number: [1, 1] for number in winners}


def test_isolation_that_the_project_has_configured_does_not_matter(
    settings: SettingsWrapper, postgresql_server: PostgreSQLServer, django_db_blocker: Any
) -> None:
    """Naive: who waited for another one sees the table as it was before, in which there is no claim."""
    entry = postgresql_server.settings(connections.settings["default"])
    for isolation, server_side in (
        (IsolationLevel.SERIALIZABLE, True),
        (IsolationLevel.REPEATABLE_READ, False),
    ):
        entry["OPTIONS"] = {"isolation_level": isolation, "server_side_binding": server_side}
        with django_db_blocker.unblock(), database_cache(settings, entry) as cache:
            backend = Backend(name="postgresql", store=claim_store(), cache=cache, shortest=1.0)
            for number in range(3):
                answers = race(backend, "admit", f"race-{number}", runners=8)
                assert [answer.verdict for answer in answers.values()].count(FREE) == 1


def test_replica_is_not_asked(kept: Backend, settings: SettingsWrapper, tmp_path: Path) -> None:
    with extra_database("replica", sqlite_settings(tmp_path / "replica.sqlite3")):
        settings.DATABASE_ROUTERS = ["tests.unit.test_database_caches.ReadingFromTheReplica"]
        call_command("createcachetable", database="replica")
        assert kept.store.admit(ask("A")).verdict is FREE
        assert kept.store.admit(ask("B")) == Answer(verdict=HELD, task_id="A")
        assert kept.store.holding("n") is not None
        assert kept.cache.get("n") is None
        assert connections["replica"].alias == "replica"


class ReadingFromTheReplica:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "claims"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return True


# a transaction of the caller's


@contextlib.contextmanager
def by_hand() -> Iterator[None]:
    """A transaction without `atomic`."""
    transaction.set_autocommit(False, using="claims")
    with connections["claims"].cursor() as cursor:
        cursor.execute("SELECT 1")
    try:
        yield
    finally:
        transaction.rollback(using="claims")
        transaction.set_autocommit(True, using="claims")


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic(using="claims"):
        with connections["claims"].cursor() as cursor:
            cursor.execute("SELECT 1")
        with transaction.atomic(using="claims"):
            yield
        transaction.set_rollback(True, using="claims")


open_transactions = pytest.mark.parametrize("transaction_of_ours", [rolled_back, by_hand])


@open_transactions
def test_claim_is_made_outside_of_the_caller_s_transaction(
    in_postgresql: Backend, transaction_of_ours: Any
) -> None:
    """Naive: nobody sees it before the commit, who wants it too has to wait, and it is gone after a rollback."""
    store, ours = in_postgresql.store, connections["claims"]
    with transaction_of_ours():
        assert store.admit(ask("A")).verdict is FREE
        assert elsewhere(lambda: claim_store().admit(ask("B"))) == Answer(verdict=HELD, task_id="A")
        assert elsewhere(lambda: claim_store().start(ask("A", "t"))).verdict is FREE
        assert store.holding("n") == elsewhere(lambda: claim_store().holding("n"))
        assert connections["claims"] is ours
    assert store.admit(ask("B")) == Answer(verdict=HELD, task_id="A")
    assert store.settle(Holding(name="n", task_id="A", token="t"))


def test_database_that_never_commits_by_itself(in_postgresql: Backend) -> None:
    """AUTOCOMMIT of its entry in DATABASES is False: a transaction is open whenever somebody is connected."""
    connections["claims"].close()
    connections["claims"].settings_dict["AUTOCOMMIT"] = False
    assert in_postgresql.store.admit(ask("A")).verdict is FREE
    assert elsewhere(lambda: claim_store().holding("n")) == in_postgresql.store.holding("n") is not None
    connections["claims"].close()


def test_connection_of_its_own_is_closed(in_postgresql: Backend, postgresql_server: PostgreSQLServer) -> None:
    with transaction.atomic(using="claims"):
        in_postgresql.store.admit(ask("A"))
        assert clients_of(postgresql_server) <= 1


def clients_of(server: PostgreSQLServer) -> int:
    with server.client() as client:
        (number,) = client.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
        return int(number)


def test_broken_transaction_of_the_caller_is_none_of_ours(in_postgresql: Backend) -> None:
    with transaction.atomic(using="claims"):
        with pytest.raises(Exception, match="no_such_table"), connections["claims"].cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
        assert in_postgresql.store.admit(ask("A")).verdict is FREE
        transaction.set_rollback(True, using="claims")
    assert in_postgresql.store.holding("n") is not None


def test_lock_within_a_transaction_is_a_lock(in_postgresql: Backend) -> None:
    """Naive: the heartbeat can't see it, and takes it for lost; who wants it too has to wait for the commit."""
    with transaction.atomic(using="claims"), locks.lock("n", lease_timeout=1.5) as lock:
        assert lock
        first = lock.renew_at
        assert elsewhere(lambda: locks.lock("n").__enter__()) is False
        wait_until(lambda: lock.renew_at > first or lock.lost, what="it is renewed")
        lock.ensure()
    with locks.lock("n") as lock:
        assert lock


def test_heartbeat_leaves_no_connection_behind(
    in_postgresql: Backend, postgresql_server: PostgreSQLServer
) -> None:
    with locks.lock("n", lease_timeout=1.5) as lock:
        first = lock.renew_at
        wait_until(lambda: lock.renew_at > first, what="it is renewed")
        close_what_this_thread_opened()
        wait_until(lambda: clients_of(postgresql_server) == 0, what="nobody is connected")


@open_transactions
def test_sqlite_has_one_writer_and_says_so(in_sqlite: Backend, transaction_of_ours: Any) -> None:
    store = in_sqlite.store
    steps: list[Callable[[], Any]] = [
        lambda: store.admit(ask("A")),
        lambda: store.holding("n"),
        lambda: lease_store().take(LeaseAsk(name="n", token="t", owner="", lasts=5.0)),
    ]
    with transaction_of_ours():
        for step in steps:
            with pytest.raises(
                StoreUnavailable, match="'claims', which keeps the cache too.*delay_on_commit"
            ):
                step()
    assert store.admit(ask("A")).verdict is FREE


def test_call_in_a_transaction_of_the_same_sqlite_file_goes_out_on_commit_only(
    queue: Queue, in_sqlite: Backend
) -> None:
    with transaction.atomic(using="claims"):
        with pytest.raises(StoreUnavailable, match="transaction is open"):
            tasks.silent.delay("a")
        result = tasks.silent.apply_async_on_commit(("a",), using="claims")
        assert queue.ids() == []
    assert queue.ids() == [result.id]
    assert tasks.silent.is_processing(("a",))


def test_transaction_of_django_s_test_case_is_joined(kept: Backend) -> None:
    """It hides everything from everybody, and takes it back: so it does with claims."""
    made: list[Answer] = []

    class Sample(TestCase):
        databases = frozenset({"claims"})

        def test_first(self) -> None:
            made.append(claim_store().admit(ask("A")))
            with transaction.atomic(using="claims"):
                made.append(claim_store().start(ask("A", "t")))
                made.append(claim_store().admit(ask("B")))

        test_second = test_first

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Sample).run(result)
    assert (result.testsRun, result.errors, result.failures) == (2, [], [])
    assert [answer.verdict for answer in made] == [FREE, FREE, HELD] * 2
    assert kept.store.holding("n") is None
    assert caches["claims"] is kept.cache
