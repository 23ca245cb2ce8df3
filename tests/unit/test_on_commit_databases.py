"""Calls on commit, and all that a real database and Django's ways of using it do to a transaction."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.transaction import TransactionManagementError

from django_celery_extensions.exceptions import CeleryError, InvalidOption, UnmanagedTransaction
from tests.project import tasks
from tests.unit.stores import default_database, extra_database, sqlite_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers_postgresql import PostgreSQLServer
    from tests.unit.conftest import Heard, Queue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("database")]

USING: dict[str, Callable[..., Any]] = {
    "apply_async_on_commit": lambda task, using: task.apply_async_on_commit(("a",), using=using),
    "positional": lambda task, using: task.apply_async_on_commit(("a",), {}, using),
    "delay_many_on_commit": lambda task, using: task.delay_many_on_commit([("a",)], using=using)[0],
    "apply_async_many_on_commit": lambda task, using: task.apply_async_many_on_commit([("a",)], using)[0],
}
each_way = pytest.mark.parametrize("call", USING.values(), ids=USING.keys())


@pytest.fixture(autouse=True)
def nothing_claimed(queue: Queue) -> Iterator[None]:
    """Whatever was not sent has no claim either: what is claimed, waits in the queue."""
    yield
    sent = [tuple(message.args) for message in queue.messages() if message.task == tasks.silent.name]
    for name in "abcde":
        assert tasks.silent.is_processing((name,)) is ((name,) in sent)


class Lost(Exception):
    """What ends the blocks of these tests."""


def begin() -> None:
    """Let the database know of the transaction: PostgreSQL begins with the first statement."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


# which database


@each_way
@pytest.mark.parametrize("using", ["other", "", "Default", 5, ["default"]])
def test_unknown_alias_is_told_at_the_call(
    queue: Queue, heard: Heard, call: Callable[..., Any], using: Any
) -> None:
    with transaction.atomic(), pytest.raises(InvalidOption, match="using is .* but DATABASES has 'default'"):
        call(tasks.silent, using)
    assert (queue.ids(), heard.names) == ([], [])


@pytest.fixture
def other(tmp_path: Path, database: str, django_db_blocker: Any) -> Iterator[str]:
    entry = sqlite_settings(tmp_path / "other.sqlite3")
    with django_db_blocker.unblock(), extra_database("other", entry) as alias:
        yield alias


@each_way
def test_each_call_follows_its_own_database(queue: Queue, other: str, call: Callable[..., Any]) -> None:
    with contextlib.suppress(Lost), transaction.atomic():
        with contextlib.suppress(Lost), transaction.atomic(using=other):
            lost = [call(tasks.silent, other)]
            raise Lost
        with transaction.atomic(using=other):
            kept = call(tasks.silent, other)
            lost.append(tasks.silent.delay_on_commit("b"))
        assert queue.ids() == [kept.id]
        raise Lost
    assert queue.ids() == [kept.id]
    assert {result.state for result in lost} == {"WAITING"}


def test_no_transaction_in_that_database_sends_at_once(queue: Queue, other: str) -> None:
    with transaction.atomic():
        sent = tasks.silent.apply_async_on_commit(("a",), using=other)
        assert queue.ids() == [sent.id]
        transaction.set_rollback(True)


# savepoints


def test_outer_rollback_takes_what_an_inner_block_has_committed(queue: Queue) -> None:
    with contextlib.suppress(Lost), transaction.atomic():
        with transaction.atomic():
            begin()
            with transaction.atomic():
                results = [tasks.silent.delay_on_commit("a"), *tasks.silent.delay_many_on_commit([("b",)])]
        raise Lost
    assert queue.ids() == []
    assert [result.state for result in results] == ["WAITING", "WAITING"]


def test_order_is_that_of_the_calls_around_lost_savepoints(queue: Queue) -> None:
    with transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        with transaction.atomic():
            second = tasks.silent.delay_on_commit("b")
            with contextlib.suppress(Lost), transaction.atomic():
                tasks.silent.delay_on_commit("c")
                with transaction.atomic():
                    tasks.silent.delay_on_commit("d")
                raise Lost
            third = tasks.add.delay_on_commit(1, 2)
        with transaction.atomic(savepoint=False):
            fourth = tasks.silent.delay_on_commit("e")
    assert queue.ids() == [first.id, second.id, third.id, fourth.id]


def test_savepoint_by_hand_does_not_take_its_calls_along(queue: Queue) -> None:
    """Django knows only which blocks of `atomic` a callback was registered in. Documented, not wanted."""
    with transaction.atomic():
        # Its name since Django 6.1, and before.
        by_hand = getattr(transaction, "savepoint_create", transaction.savepoint)()
        result = tasks.silent.delay_on_commit("a")
        transaction.savepoint_rollback(by_hand)
    assert queue.ids() == [result.id]


def test_durable_block(queue: Queue) -> None:
    with transaction.atomic(durable=True):
        first = tasks.silent.delay_on_commit("a")
        assert queue.ids() == []
    with contextlib.suppress(RuntimeError), transaction.atomic():
        tasks.silent.delay_on_commit("b")
        with transaction.atomic(durable=True):
            tasks.silent.delay_on_commit("c")
    assert queue.ids() == [first.id]


# no autocommit


@pytest.fixture
def manual(database: str) -> Iterator[None]:
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@each_way
@pytest.mark.usefixtures("manual")
def test_manual_transaction_is_told_at_the_call(queue: Queue, heard: Heard, call: Callable[..., Any]) -> None:
    for error in (UnmanagedTransaction, TransactionManagementError, CeleryError):
        with pytest.raises(error, match="silent: autocommit is off in the database 'default'"):
            call(tasks.silent, None)
    assert (queue.ids(), heard.names) == ([], [])


@pytest.mark.usefixtures("manual")
def test_block_in_a_manual_transaction_is_sent_when_autocommit_is_back(queue: Queue) -> None:
    for end, sent in ((transaction.rollback, 0), (transaction.commit, 1)):
        with transaction.atomic():
            begin()
            result = tasks.silent.delay_on_commit("a")
        assert queue.ids() == []
        end()
        transaction.set_autocommit(True)
        assert queue.ids() == [result.id] * sent
        transaction.set_autocommit(False)


@each_way
def test_database_that_never_commits_by_itself_is_told_at_the_call(
    queue: Queue, heard: Heard, call: Callable[..., Any]
) -> None:
    """Naive: Django takes the callback within `atomic`, and never calls it."""
    entry = {**connections.settings["default"], "AUTOCOMMIT": False}
    with default_database(entry):
        with pytest.raises(UnmanagedTransaction):
            call(tasks.silent, None)
        with transaction.atomic(), pytest.raises(UnmanagedTransaction):
            call(tasks.silent, None)
    assert (queue.ids(), heard.names) == ([], [])


# transactions that fail


def test_broken_transaction_sends_nothing(queue: Queue) -> None:
    with contextlib.suppress(TransactionManagementError), transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        with contextlib.suppress(DatabaseError), transaction.atomic(savepoint=False):
            connection.cursor().execute("SELECT * FROM no_such_table")
        second = tasks.silent.delay_on_commit("b")
        begin()
    assert (first.state, second.state, queue.ids()) == ("WAITING", "WAITING", [])
    third = tasks.silent.delay_on_commit("c")
    assert queue.ids() == [third.id]


@pytest.fixture
def tables(database: str) -> Iterator[None]:
    """A table that names rows of another one; they must be there at the commit."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE parent (id integer PRIMARY KEY)")
        cursor.execute(
            "CREATE TABLE child (id integer PRIMARY KEY, "
            "parent integer REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE child")
        cursor.execute("DROP TABLE parent")


@pytest.mark.usefixtures("tables")
def test_constraint_that_fails_at_the_commit_sends_nothing(queue: Queue) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012 - the commit raises
        connection.cursor().execute("INSERT INTO child VALUES (1, 7)")
        results = [tasks.silent.delay_on_commit("a"), *tasks.silent.delay_many_on_commit([("b",)])]
    assert queue.ids() == []
    assert [result.state for result in results] == ["WAITING", "WAITING"]
    with transaction.atomic():
        sent = tasks.silent.delay_on_commit("a")
    assert queue.ids() == [sent.id]


in_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@in_postgresql
@pytest.mark.usefixtures("tables")
def test_serialization_failure_at_the_commit_sends_nothing(
    queue: Queue, postgresql_server: PostgreSQLServer
) -> None:
    """Two transactions each count what the other one adds to: the first to commit is let through."""
    entry = {
        **connections.settings["default"],
        "OPTIONS": {"isolation_level": IsolationLevel.SERIALIZABLE},
    }
    count, add = "SELECT count(*) FROM parent", "INSERT INTO parent VALUES (%s)"
    with default_database(entry), postgresql_server.client() as rival:
        failed: Any = pytest.raises(OperationalError, match="could not serialize")
        with failed, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(count)
            cursor.execute(add, [1])
            rival.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            rival.execute(count)
            rival.execute(add, [2])
            rival.execute("COMMIT")
            result = tasks.silent.delay_on_commit("a")
    assert (result.state, queue.ids()) == ("WAITING", [])


@in_postgresql
def test_connection_that_is_lost_at_the_commit_sends_nothing(
    queue: Queue, postgresql_server: PostgreSQLServer
) -> None:
    lost: Any = pytest.raises((OperationalError, InterfaceError))
    with lost, transaction.atomic():
        begin()
        result = tasks.silent.delay_on_commit("a")
        postgresql_server.cut_connections()
    assert (result.state, queue.ids()) == ("WAITING", [])
    with transaction.atomic():
        begin()
        sent = tasks.silent.delay_on_commit("a")
    assert queue.ids() == [sent.id]


# callbacks of the user's


def fail() -> None:
    raise Lost


@pytest.mark.parametrize("robust", [False, True])
def test_callback_that_raises_before_ours(queue: Queue, robust: bool) -> None:
    """Django drops all that come after it, and raises; or it logs the error, and goes on."""
    told: Any = contextlib.nullcontext() if robust else pytest.raises(Lost)
    with told, transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        transaction.on_commit(fail, robust=robust)
        second = tasks.silent.delay_on_commit("b")
    assert queue.ids() == [first.id, *([second.id] if robust else [])]
    assert second.state == ("PENDING" if robust else "WAITING")


@pytest.mark.parametrize("robust", [False, True])
def test_callback_that_raises_after_ours(queue: Queue, robust: bool) -> None:
    told: Any = contextlib.nullcontext() if robust else pytest.raises(Lost)
    with told, transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        second = tasks.silent.delay_on_commit("b")
        transaction.on_commit(fail, robust=robust)
    assert queue.ids() == [first.id, second.id]


def test_callback_may_call_and_use_the_database(queue: Queue) -> None:
    results: list[Any] = []

    def call() -> None:
        with transaction.atomic():
            begin()
            results.append(tasks.silent.delay_on_commit("b"))
        results.append(tasks.silent.delay_on_commit("c"))

    with transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        transaction.on_commit(call)
    assert queue.ids() == [first.id, *(result.id for result in results)]
