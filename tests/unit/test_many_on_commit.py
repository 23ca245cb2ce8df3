"""Calls that wait for one commit go out together: in order, and never worse than Django's own callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test import TestCase
from kombu.exceptions import OperationalError

from django_celery_extensions import chunks, signals
from django_celery_extensions.exceptions import ManyNotSent, UniqueTaskConflict
from django_celery_extensions.invocation import Outcome
from tests.live import forget_connections
from tests.project import tasks
from tests.project.celery import app
from tests.proxy import Proxy
from tests.settings import redis_cache
from tests.unit.conftest import needs_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare, Queue

pytestmark = pytest.mark.django_db(transaction=True)

TRIGGERED, UNIQUE, WAITING, UNCERTAIN = Outcome.TRIGGERED, Outcome.UNIQUE, Outcome.WAITING, Outcome.UNCERTAIN


def body(x: Any = None) -> Any:
    return x


def ids(results: list[Any]) -> list[str]:
    return [result.id for result in results]


@pytest.fixture
def network(queue: Queue, settings: SettingsWrapper) -> Iterator[Proxy]:
    """The way to the broker and to the store."""
    with Proxy(queue.live.broker.port) as proxy:
        settings.CELERY_BROKER_URL = proxy.database(0)
        settings.CACHES = {**settings.CACHES, "default": redis_cache(proxy.database(5))}
        forget_connections(app)
        yield proxy
        forget_connections(app)
    with queue.live.broker.client(5) as client:
        client.flushdb()


@needs_batches
def test_calls_of_one_transaction_share_their_round_trips(network: Proxy, queue: Queue) -> None:
    """Naive: one round trip for each claim and one for each message."""

    def calls() -> list[Any]:
        with transaction.atomic():
            return [
                task.apply_async_on_commit((number,), ignore_result=True)
                for number in range(100)
                for task in (tasks.silent, tasks.unique)
            ]

    tasks.silent.delay_many([("warm",), ("up",)])
    tasks.unique.delay_many([("warm",), ("up",)])
    before = network.trips
    results = calls()
    assert queue.ids()[4:] == ids(results)
    assert network.trips - before <= 4


def test_callback_of_the_user_finds_what_was_called_before_it_and_no_more(queue: Queue) -> None:
    found: list[int] = []
    with transaction.atomic():
        for number in range(3):
            tasks.add.delay_on_commit(number, 1)
            tasks.silent.delay_many_on_commit([(number,)])
            transaction.on_commit(lambda: found.append(len(queue.ids())))
    assert found == [2, 4, 6]


def test_savepoints_end_a_group(queue: Queue) -> None:
    """Naive: sent with a group that another savepoint takes away, or after its rollback."""
    kept: list[Any] = []
    lost: list[Any] = []
    with transaction.atomic():
        kept.append(tasks.silent.delay_on_commit("a"))
        with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012 - the block raises
            lost.append(tasks.silent.delay_on_commit("b"))
            with transaction.atomic():
                lost.append(tasks.silent.delay_on_commit("c"))
            lost.append(tasks.silent.delay_on_commit("d"))
            raise KeyError
        kept.append(tasks.silent.delay_on_commit("e"))
        with transaction.atomic():
            kept.append(tasks.silent.delay_on_commit("f"))
            with transaction.atomic():
                kept.append(tasks.silent.delay_on_commit("g"))
            kept.append(tasks.silent.delay_on_commit("h"))
    assert queue.ids() == ids(kept)
    assert {result.state for result in lost} == {"WAITING"}
    assert not any(tasks.silent.is_processing((key,)) for key in "bcd")


def test_blocks_that_make_no_savepoint(queue: Queue) -> None:
    with transaction.atomic():
        first = tasks.silent.delay_on_commit("a")
        with transaction.atomic(savepoint=False):
            second = tasks.silent.delay_on_commit("b")
        third = tasks.silent.delay_on_commit("c")
    assert queue.ids() == ids([first, second, third])


def test_next_transaction_starts_anew(queue: Queue) -> None:
    with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012 - the block raises
        tasks.silent.delay_on_commit("a")
        raise KeyError
    with transaction.atomic():
        second = tasks.silent.delay_on_commit("b")
    third = tasks.silent.delay_on_commit("c")  # at once
    assert queue.ids() == ids([second, third])


def test_each_call_is_a_callback_of_django(queue: Queue) -> None:
    with transaction.atomic():
        for number in range(3):
            tasks.silent.delay_on_commit(number)
        tasks.silent.delay_many_on_commit([("a",), ("b",)])
        tasks.silent.delay_many_on_commit([])
        assert len(connection.run_on_commit) == 4


@pytest.mark.django_db
def test_test_case_runs_each_callback_by_itself(queue: Queue) -> None:
    """Naive: the first one sends all of them, though a test runs them one by one."""
    with TestCase.captureOnCommitCallbacks() as captured:
        results = [tasks.silent.delay_on_commit(key) for key in "abc"]
    seen = []
    for callback in captured:
        callback()
        seen.append(len(queue.ids()))
    assert seen == [1, 2, 3]
    with TestCase.captureOnCommitCallbacks(execute=True):
        results.append(tasks.silent.delay_on_commit("d"))
    assert queue.ids() == ids(results)
    for callback in captured:
        callback()  # done is done
    assert len(queue.ids()) == 4


# errors


def test_error_of_one_call_is_what_it_is_without_a_group(queue: Queue) -> None:
    """Those before it are sent; Django drops every callback after it; no claim is left."""
    ran: list[str] = []
    active = tasks.silent.delay("x")
    with pytest.raises(UniqueTaskConflict, match=active.id), transaction.atomic():  # noqa: PT012 - the commit raises
        before = [tasks.silent.delay_on_commit("a"), tasks.unique.delay_on_commit("b")]
        conflict = tasks.silent.apply_async_on_commit(("x",), unique_on_conflict="raise")
        after = [tasks.silent.delay_on_commit("c"), *tasks.silent.delay_many_on_commit([("d",), ("e",)])]
        transaction.on_commit(lambda: ran.append("never"))
    assert queue.ids() == ids([active, *before])
    assert conflict.outcome is UNIQUE
    assert {result.state for result in after} == {"WAITING"}
    assert ran == []
    assert not any(tasks.silent.is_processing((key,)) for key in "cde")
    with transaction.atomic():
        again = tasks.silent.delay_on_commit("c")
    assert again.outcome is TRIGGERED


def test_hook_that_raises(queue: Queue, declare: Declare) -> None:
    class HookError(Exception):
        pass

    def refuse(task: Any, args: Any, **_: Any) -> None:
        if args == ("b",):
            raise HookError

    signals.invocation_triggered.connect(refuse)
    try:
        with pytest.raises(HookError), transaction.atomic():
            results = [tasks.silent.delay_on_commit(key) for key in "abc"]
    finally:
        signals.invocation_triggered.disconnect(refuse)
    assert [result.outcome for result in results] == [TRIGGERED, WAITING, WAITING]
    assert queue.ids() == ids(results[:1])
    assert [tasks.silent.is_processing((key,)) for key in "abc"] == [True, False, False]


def test_list_among_others_tells_of_its_own_calls(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    active = tasks.silent.delay("x")
    with pytest.raises(ManyNotSent, match="2 of 3") as raised, transaction.atomic():  # noqa: PT012 - the commit raises
        first = tasks.silent.delay_on_commit("a")
        listed = tasks.silent.apply_async_many_on_commit([("b",), ("x",), ("c",)], unique_on_conflict="raise")
        last = tasks.silent.delay_on_commit("d")
    assert isinstance(raised.value.__cause__, UniqueTaskConflict)
    assert (raised.value.results, raised.value.not_sent) == (listed, [1, 2])
    assert queue.ids() == ids([active, first, listed[0]])
    assert last.outcome is WAITING


def test_broker_that_is_down(queue: Queue, settings: SettingsWrapper) -> None:
    forget_connections(app)
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(OperationalError), transaction.atomic():
        results = [tasks.silent.apply_async_on_commit((key,), retry=False) for key in "abc"]
    assert {result.outcome for result in results} == {WAITING}
    assert not any(tasks.silent.is_processing((key,)) for key in "abc")


# calls with ways of their own


def test_call_with_a_producer_of_its_own_goes_in_its_place(queue: Queue, declare: Declare) -> None:
    task = declare(body)
    with app.connection_for_write() as other, transaction.atomic():
        producer = app.amqp.Producer(other)
        results = [
            task.delay_on_commit(1),
            task.delay_on_commit(2),
            task.apply_async_on_commit((3,), producer=producer),
            task.apply_async_on_commit((4,), connection=other),
            task.delay_on_commit(5),
            task.apply_async_on_commit((6,), retry=False),
            task.apply_async_on_commit((7,), retry_policy={"max_retries": 1}),
            task.delay_on_commit(8),
        ]
    assert queue.ids() == ids(results)


def test_hook_that_calls_on_commit_is_not_held_up(queue: Queue) -> None:
    nested: list[Any] = []

    def call_another(task: Any, **_: Any) -> None:
        if task.name == tasks.silent.name:
            nested.append(tasks.add.delay_on_commit(1, 2))

    signals.invocation_triggered.connect(call_another)
    try:
        with transaction.atomic():
            results = [tasks.silent.delay_on_commit(key) for key in "ab"]
    finally:
        signals.invocation_triggered.disconnect(call_another)
    assert queue.ids() == ids([*nested, *results])


def test_countdowns_count_from_the_commit(queue: Queue) -> None:
    with transaction.atomic():
        for key in "ab":
            tasks.silent.apply_async_on_commit((key,), countdown=1000, stale_time_limit=60)
    with queue.live.store.client() as client:
        lives = [client.pttl(key) for key in client.scan_iter() if b"silent" in key]
    assert len(lives) == 2
    assert all(1_000_000 < life <= 1_060_000 for life in lives)


def test_progress_of_a_list(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    told: list[Any] = []
    with transaction.atomic():
        first = tasks.add.delay_on_commit(0, 0)
        results = tasks.add.delay_many_on_commit(
            [(number, 1) for number in range(3)],
            progress=lambda *numbers: told.append((*numbers, len(queue.ids()))),
        )
        last = tasks.add.delay_on_commit(0, 0)
    assert told == [(2, 3, 3), (3, 3, 4)]
    assert queue.ids() == ids([first, *results, last])
    assert all(result.on_commit for result in results)


def test_eager_calls_run_in_order(queue: Queue, settings: SettingsWrapper, declare: Declare) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    ran: list[Any] = []

    def note(x: Any) -> None:
        ran.append(x)

    task = declare(note, unique=True)
    with transaction.atomic():
        results = [task.delay_on_commit(key) for key in "aba"]
        assert ran == []
    assert ran == ["a", "b", "a"]
    assert {result.outcome for result in results} == {TRIGGERED}
