"""What everything costs at the store: the tables of docs/guarantees.md, counted on the wire (contract, 5)."""

from __future__ import annotations

import re
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import group
from django.db import transaction

from django_celery_extensions import locks
from django_celery_extensions.exceptions import UniqueTaskConflict
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.once import SLOT, SlotHeader
from tests.project import costs, journal
from tests.project.celery import app
from tests.proxy import Proxy
from tests.settings import redis_cache
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery.result import AsyncResult
    from pytest_django.fixtures import SettingsWrapper

    from tests.live import Live
    from tests.servers import RedisServer

    #: Does something with a key of its own, and counts a part of it.
    Scenario = Callable[["Stage", str], None]

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
#: A queue that no worker listens to.
NOBODY = "nobody"


@dataclass
class Stage:
    """This process and a worker, and the network between them and their store."""

    network: Proxy
    trips: int = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = self.network.trips
        yield
        self.trips = self.network.trips - before

    def cost(self, scenario: Scenario) -> int:
        """Return the round trips of what a scenario counts, with connections and scripts that are there already."""
        for _ in range(2):
            scenario(self, uuid.uuid4().hex)
        return self.trips


@pytest.fixture(scope="module")
def network(store_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(store_server.port) as proxy:
        yield proxy


@pytest.fixture
def stage(live_app: Live, network: Proxy, settings: SettingsWrapper) -> Stage:
    live_app.use(broker_database=4, result_database=5)  # where no worker listens
    settings.CACHES = {**settings.CACHES, "default": redis_cache(network.database(0))}
    return Stage(network)


@pytest.fixture
def worker(stage: Stage, live_app: Live, workers: list[Worker]) -> Worker:
    """A worker that does one thing at a time, and looks soon whether what it held is still held."""
    live_app.use(broker_database=6, result_database=7)
    if not workers:
        env = {**live_app.env, "TEST_REDIS_URL": stage.network.database(0), "TEST_LOCK_TIMEOUT": "3"}
        workers.append(Worker(pool="solo", env=env).ready())
    return workers[0]


def table(head: str) -> dict[str, list[int]]:
    """Return a table of the page: what stands in its first column, and the sums of the others."""
    text = PAGE.read_text(encoding="utf-8")
    (rows,) = re.findall(rf"^\| {head} \|.*\n\|[-|:]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    return {what: [sum(map(int, re.findall(r"\d+", cell))) for cell in numbers] for what, *numbers in cells}


# tasks


def by_somebody_else(key: str, **options: Any) -> Any:
    return app.send_task(costs.unique.name, (key,), **options)


def by_beat(key: str, **options: Any) -> Any:
    task_id = str(uuid.uuid4())
    header = SlotHeader(task_id=task_id, beat="b", entry="e", slot=time.time_ns(), sending=key).pack()
    return costs.plain.apply_async((key,), task_id=task_id, headers={SLOT: header}, **options)


def sent(task: Any) -> Callable[..., Any]:
    def send(key: str, **options: Any) -> Any:
        return task.apply_async((key,), **options)

    return send


#: Sends the message of a task with a key.
TASKS: dict[str, Callable[..., Any]] = {
    "neither unique nor ever ignored, however it is called": sent(costs.plain),
    "unique": sent(costs.unique),
    "unique, until it starts": sent(costs.until_start),
    "unique, sent by somebody else (`send_task`, another language)": by_somebody_else,
    "unique, retried once": sent(costs.retried),
    "ignored after a success": sent(costs.window),
    "ignored by hand: `set_ignore_task()`": sent(costs.window_by_hand),
    "unique, and ignored after a success": sent(costs.unique_with_window),
    "with a lock in its body": sent(costs.locked),
    "with a semaphore in its body": sent(costs.slotted),
    "a mutex": sent(costs.alone),
    "a mutex, and unique": sent(costs.unique_and_alone),
    "sent by our beat, neither unique nor ever ignored": by_beat,
}


@pytest.mark.parametrize("what", TASKS)
def test_task(stage: Stage, worker: Worker, what: str) -> None:
    send, (call, run) = TASKS[what], table("a task")[what]

    def nobody_takes_it(stage: Stage, key: str) -> None:
        with stage.counted():
            send(key, queue=NOBODY)

    def it_runs(stage: Stage, key: str) -> None:
        with stage.counted():
            # Whatever a run gives back it has given back before its result is stored.
            assert send(key).get(timeout=15) == key

    assert stage.cost(nobody_takes_it) == call
    assert stage.cost(it_runs) == call + run


PLAIN: dict[str, Callable[[str], Any]] = {
    "direct call": costs.plain,
    "delay": costs.plain.delay,
    "apply": lambda key: costs.plain.apply((key,)),
    "delay_on_commit": costs.plain.delay_on_commit,
    "apply_async_on_commit": lambda key: costs.plain.apply_async_on_commit((key,), countdown=60),
    "delay_many": lambda key: costs.plain.delay_many([(key,), (key,)]),
    "apply_async_many_on_commit": lambda key: costs.plain.apply_async_many_on_commit([((key,), {})]),
    "canvas": lambda key: group(costs.plain.s(key), costs.plain.s(key)).apply_async(),
    "of Celery": costs.of_celery.delay,
}


@pytest.mark.parametrize("how", PLAIN)
def test_plain_task_costs_nothing_however_it_is_called(stage: Stage, how: str) -> None:
    def scenario(stage: Stage, key: str) -> None:
        with stage.counted(), transaction.atomic():
            PLAIN[how](key)

    assert stage.cost(scenario) == 0


# something else


def duplicate(task: Any, outcome: Outcome, stage: Stage, key: str) -> None:
    first = task.delay(key)
    with stage.counted():
        second = task.delay(key)
    assert second.outcome is outcome
    assert (second.id == first.id) is (outcome is Outcome.UNIQUE)


def duplicate_that_raises(stage: Stage, key: str) -> None:
    costs.raising.delay(key)
    with stage.counted(), pytest.raises(UniqueTaskConflict):
        costs.raising.delay(key)


def within_a_window(stage: Stage, key: str) -> None:
    costs.window.apply((key,))
    with stage.counted():
        assert costs.window.delay(key).outcome is Outcome.IGNORED


def ignored(result: AsyncResult[Any]) -> None:
    wait_until(lambda: result.state == "IGNORED", what="it is dropped")


def starts_within_a_window(stage: Stage, key: str) -> None:
    costs.window.apply((key,))
    with stage.counted():
        ignored(app.send_task(costs.window.name, (key,)))


def starts_while_another_has_its_key(stage: Stage, key: str) -> None:
    costs.unique.apply_async((key,), queue=NOBODY)
    with stage.counted():
        ignored(app.send_task(costs.unique.name, (key,)))


def on_commit(stage: Stage, key: str) -> None:
    with stage.counted(), transaction.atomic():
        before = stage.network.trips
        costs.unique.delay_on_commit(key)
        assert stage.network.trips == before


def rolled_back(stage: Stage, key: str) -> None:
    with stage.counted(), transaction.atomic():
        costs.unique.delay_on_commit(key)
        transaction.set_rollback(True)


def many_in_one_transaction(stage: Stage, key: str) -> None:
    with stage.counted(), transaction.atomic():
        results = [costs.unique.delay_on_commit(f"{key}{number}") for number in range(100)]
    assert {result.outcome for result in results} == {Outcome.TRIGGERED}


def many_at_once(stage: Stage, key: str) -> None:
    with stage.counted():
        costs.unique.apply_async_many([((f"{key}{number}",), {}) for number in range(1000)])


def here_and_now(stage: Stage, key: str) -> None:
    with stage.counted():
        assert costs.unique.apply((key,)).get() == key


def asked_for(stage: Stage, key: str) -> None:
    costs.unique.delay(key)
    with stage.counted():
        assert costs.unique.is_processing((key,))


def taken_and_given_back(hold: Callable[[str], locks.Hold], stage: Stage, key: str) -> None:
    with stage.counted(), hold(key) as lease:
        assert lease


def held_by_others(hold: Callable[[str], locks.Hold], stage: Stage, key: str) -> None:
    with hold(key), stage.counted(), hold(key) as lease:
        assert not lease


def renewal(stage: Stage, key: str) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(locks.lock(f"{key}{n}", lease_timeout=3)) for n in range(20)]
        due = [lease.renew_at for lease in held if lease]
        assert len(due) == 20
        with stage.counted():
            wait_until(
                lambda: all(
                    lease and lease.renew_at > before for lease, before in zip(held, due, strict=True)
                ),
                what="all are renewed",
            )


def idle_worker(stage: Stage, key: str) -> None:
    assert costs.unique.delay(key).get(timeout=15) == key
    wait_until(lambda: costs.sleeps.delay().get(timeout=15), what="its heartbeat sleeps until it is woken")
    with stage.counted():
        assert costs.sleeps.delay().get(timeout=15)


OTHERS: dict[str, tuple[Scenario, ...]] = {
    "a duplicate that joins, raises, is skipped, or replaces": (
        partial(duplicate, costs.unique, Outcome.UNIQUE),
        duplicate_that_raises,
        partial(duplicate, costs.skipping, Outcome.IGNORED),
        partial(duplicate, costs.replacing, Outcome.TRIGGERED),
    ),
    "a call within an ignore window": (within_a_window,),
    "a message that starts within an ignore window, or while another task has its key": (
        starts_within_a_window,
        starts_while_another_has_its_key,
    ),
    "a unique call on commit, at the commit": (on_commit,),
    "a unique call in a transaction that is rolled back": (rolled_back,),
    "100 unique calls on commit, in one transaction": (many_in_one_transaction,),
    "1,000 unique calls at once, by `apply_async_many`": (many_at_once,),
    "a unique task run here and now, by `apply`": (here_and_now,),
    "`is_processing()`": (asked_for,),
    "a lock or a semaphore, to take and to give back": (
        partial(taken_and_given_back, locks.lock),
        partial(taken_and_given_back, partial(locks.semaphore, max_leases=3)),
    ),
    "one that others hold": (partial(held_by_others, locks.lock), partial(held_by_others, locks.semaphore)),
    "one renewal of all that a process holds": (renewal,),
    "a worker that holds nothing": (idle_worker,),
}
#: Those for which something has to run.
IN_THE_WORKER = {starts_within_a_window, starts_while_another_has_its_key, idle_worker}


@pytest.mark.parametrize(
    ("what", "scenario"), [(what, scenario) for what, scenarios in OTHERS.items() for scenario in scenarios]
)
def test_something_else(
    stage: Stage, request: pytest.FixtureRequest, what: str, scenario: Scenario, workers: list[Worker]
) -> None:
    if scenario in IN_THE_WORKER:
        request.getfixturevalue("worker")
    assert [stage.cost(scenario)] == table("something else")[what]


def test_tables_are_complete() -> None:
    assert [*table("a task")] == [*TASKS]
    assert [*table("something else")] == [*OTHERS]


# what a worker does for a delivery


def test_delivery_costs_no_more_than_one_of_plain_celery(stage: Stage, worker: Worker) -> None:
    """Within 1 % of the Python calls; they take turns."""
    calls: dict[str, list[int]] = {}
    for turn in range(3):
        for task in (costs.of_celery, costs.plain):
            gate = f"{task.name}{turn}"
            costs.count_calls.apply_async((gate,), ignore_result=True)
            for _ in range(25):
                task.apply_async(("x",), ignore_result=True)
            counted = costs.calls_counted.delay()
            journal.open_gate(gate)
            calls.setdefault(task.name, []).append(counted.get(timeout=15))
    of_celery, plain = map(min, calls.values())
    assert of_celery > 25 * 100
    assert plain < of_celery * 1.01
