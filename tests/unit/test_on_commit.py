"""Calls that wait for the commit of a transaction."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain
from django.db import transaction

from django_celery_extensions.invocation import Outcome
from tests.project import tasks
from tests.unit.stores import extra_database, sqlite_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.conftest import Declare, Queue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("database")]

WAYS: dict[str, Callable[..., Any]] = {
    "delay_on_commit": lambda task, *args: task.delay_on_commit(*args),
    "apply_async_on_commit": lambda task, *args: task.apply_async_on_commit(args=args),
    "positional": lambda task, *args: task.apply_async_on_commit(args, {}, None),
    "delay_many_on_commit": lambda task, *args: task.delay_many_on_commit([args])[0],
    "apply_async_many_on_commit": lambda task, *args: task.apply_async_many_on_commit([(args, None)])[0],
}
each_way = pytest.mark.parametrize("call", WAYS.values(), ids=WAYS.keys())


class Rollback(Exception):
    """What ends the blocks of these tests."""


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """A block of a transaction that an error ends."""
    with contextlib.suppress(Rollback), transaction.atomic():
        yield
        raise Rollback


def body(x: Any = None, y: Any = None) -> Any:
    return x


@each_way
@pytest.mark.parametrize("options", [{}, {"unique": True}, {"ignore_task_timedelta": 60}])
def test_sent_at_the_commit_and_not_before(
    queue: Queue, declare: Declare, call: Callable[..., Any], options: dict[str, Any]
) -> None:
    task = declare(body, **options)
    with transaction.atomic():
        with transaction.atomic():
            result = call(task, 5)
        assert queue.ids() == []
        if options.get("unique"):
            assert not task.is_processing((5,)), "nothing is claimed before the commit"
    (message,) = queue.messages()
    assert (message.task_id, message.args, message.task) == (result.id, [5], "declared.body")
    assert message.headers["eta"] is None, "no countdown, no ETA"


@each_way
def test_sent_at_once_outside_of_a_transaction(queue: Queue, call: Callable[..., Any]) -> None:
    result = call(tasks.silent, "a")
    assert queue.ids() == [result.id]
    assert result.state == "PENDING"


@each_way
@pytest.mark.parametrize("task", [tasks.silent, tasks.note])
def test_nothing_is_sent_or_claimed_after_a_rollback(
    queue: Queue, call: Callable[..., Any], task: Any
) -> None:
    with rolled_back():
        result = call(task, "a")
    assert queue.ids() == []
    assert result.state == "WAITING"
    assert not tasks.silent.is_processing(("a",))
    assert call(task, "a").id == queue.ids()[0]


def test_rolled_back_savepoint_takes_its_calls_with_it(queue: Queue) -> None:
    with transaction.atomic():
        outer = tasks.silent.delay_on_commit("outer")
        with rolled_back():
            lost = tasks.silent.delay_on_commit("lost")
            with transaction.atomic():
                nested = tasks.silent.delay_on_commit("nested")
        with transaction.atomic():
            inner = tasks.silent.delay_on_commit("inner")
    assert queue.ids() == [outer.id, inner.id]
    assert (lost.state, nested.state) == ("WAITING", "WAITING")
    assert not tasks.silent.is_processing(("lost",))


def test_first_call_in_a_lost_savepoint_does_not_swallow_the_second(queue: Queue) -> None:
    """Naive: joined to a call that is never sent, because it claimed when it was made."""
    with transaction.atomic():
        with rolled_back():
            tasks.silent.delay_on_commit("a")
        second = tasks.silent.delay_on_commit("a")
    assert queue.ids() == [second.id]


def test_order_of_sending_is_order_of_calling(queue: Queue) -> None:
    results: list[Any] = []
    with transaction.atomic():
        for number in range(3):
            results.append(tasks.silent.delay_on_commit(number))
            results.append(tasks.add.apply_async_on_commit((number, 1)))
            with transaction.atomic():
                results += tasks.silent.delay_many_on_commit([(f"{number}a",), (f"{number}b",)])
    assert queue.ids() == [result.id for result in results]


def test_two_calls_of_one_transaction_are_one_task(queue: Queue) -> None:
    with transaction.atomic():
        first, second = tasks.silent.delay_on_commit("a"), tasks.silent.delay_on_commit("a")
        assert first.id != second.id
    assert first.id == second.id
    assert (first.outcome, second.outcome) == (Outcome.TRIGGERED, Outcome.UNIQUE)
    assert queue.ids() == [first.id]


@pytest.mark.parametrize(("task", "args"), [(tasks.silent, ("a",)), (tasks.add, (1, 2))])
def test_countdown_counts_from_the_commit(queue: Queue, task: Any, args: Any) -> None:
    with transaction.atomic():
        task.apply_async_on_commit(args, countdown=100)
        committing = datetime.now(timezone.utc)
    (message,) = queue.messages()
    eta = datetime.fromisoformat(message.headers["eta"])
    assert committing + timedelta(seconds=100) <= eta <= datetime.now(timezone.utc) + timedelta(seconds=100)


def test_eta_is_the_moment_that_was_given(queue: Queue) -> None:
    eta = datetime.now(timezone.utc) + timedelta(hours=1)
    with transaction.atomic():
        tasks.silent.apply_async_on_commit(("a",), eta=eta)
    (message,) = queue.messages()
    assert datetime.fromisoformat(message.headers["eta"]) == eta


def test_claim_lasts_longer_than_the_countdown(queue: Queue) -> None:
    with transaction.atomic():
        tasks.silent.apply_async_on_commit(("a",), countdown=1000, stale_time_limit=60)
    with queue.live.store.client() as client:
        (key,) = [key for key in client.scan_iter() if b"silent" in key]
        assert 1_000_000 < client.pttl(key) <= 1_060_000


def test_options_go_with_the_message(queue: Queue) -> None:
    with transaction.atomic():
        result = tasks.silent.apply_async_on_commit(
            ("a",), queue="other", headers={"mine": 1}, expires=50, task_id="my-id", shadow="shadowed"
        )
        assert result.id == "my-id"
    (message,) = queue.messages("other")
    assert (message.task_id, message.headers["mine"]) == ("my-id", 1)
    assert message.headers["shadow"] == "shadowed"
    assert message.headers["expires"] is not None


# which transaction


@pytest.fixture
def other_database(tmp_path: Path, database: str, django_db_blocker: Any) -> Iterator[str]:
    entry = sqlite_settings(tmp_path / "other.sqlite3")
    with django_db_blocker.unblock(), extra_database("other", entry) as alias:
        yield alias


def test_using_names_the_database(queue: Queue, other_database: str) -> None:
    with transaction.atomic():
        with transaction.atomic(using=other_database):
            results = [
                tasks.silent.apply_async_on_commit(("a",), using=other_database),
                *tasks.silent.apply_async_many_on_commit([(("b",), None)], using=other_database),
            ]
            default = tasks.silent.apply_async_on_commit(("c",))
            assert queue.ids() == []
        assert queue.ids() == [result.id for result in results]
        assert default.state == "WAITING"
    assert queue.ids()[-1] == default.id


def test_transaction_that_will_roll_back_sends_nothing(queue: Queue) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        result = tasks.silent.delay_on_commit("a")
    assert (result.state, queue.ids()) == ("WAITING", [])


def test_whole_chain_may_wait_for_the_commit(queue: Queue) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: chain(tasks.silent.si("a"), tasks.silent.si("a")).delay())
        assert queue.ids() == []
    assert len(queue.ids()) == 1
