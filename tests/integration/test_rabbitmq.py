"""RabbitMQ with real workers: classic queues, and quorum queues with Celery's native delayed delivery."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain
from django.db import transaction
from django.utils import timezone

from django_celery_extensions.invocation import Outcome
from tests.project import journal, tasks
from tests.sites import Site, members_take_over, site
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import RedisServer
    from tests.servers_rabbitmq import RabbitMQServer

pytestmark = pytest.mark.integration

#: Seconds that the claim of a killed worker outlives it.
LEASE = 2.0


@pytest.fixture(scope="module", params=["classic", "quorum"])
def started(
    request: pytest.FixtureRequest,
    rabbitmq_server: RabbitMQServer,
    redis_server: RedisServer,
    store_server: RedisServer,
    worker_database: Path,
) -> Iterator[Site]:
    """One queue of a type, and its worker, for all tests of it."""
    queue = f"tests-{request.param}"
    settings = {
        "CELERY_BROKER_URL": rabbitmq_server.url,
        "CELERY_RESULT_BACKEND": redis_server.database(9),
        "CELERY_TASK_DEFAULT_QUEUE": queue,
        "CELERY_TASK_DEFAULT_QUEUE_TYPE": request.param,
        # Celery's delayed delivery takes no direct exchange.
        "CELERY_TASK_DEFAULT_EXCHANGE": queue,
        "CELERY_TASK_DEFAULT_EXCHANGE_TYPE": "topic",
        "CELERY_TASK_DEFAULT_ROUTING_KEY": queue,
        "DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT": LEASE,
    }
    with site(store_server, worker_database, **settings) as made:
        made.start_worker()
        yield made


@pytest.fixture
def place(started: Site, store_server: RedisServer) -> Site:
    store_server.flush()
    return started


def is_quorum(place: Site) -> bool:
    return bool(place.settings["CELERY_TASK_DEFAULT_QUEUE_TYPE"] == "quorum")


def runs(place: Site, times: int = 1) -> list[list[Any]]:
    """Wait until so many bodies have started."""
    return wait_until(
        lambda: len(lines := journal.read("start")) >= times and lines,
        timeout=20,
        what=lambda: f"{times} started; {journal.read()}; {place.worker.log()[-4000:]}",
    )


def received(place: Site, task_id: str) -> int:
    return place.worker.log().count(f"[{task_id}] received")


def ended(task: Any, *args: Any) -> None:
    wait_until(lambda: not task.is_processing(args), what="the claim has ended")


@contextmanager
def taking(at_least: float, at_most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert at_least <= time.monotonic() - began < at_most


def test_duplicates_join_or_wait_for_the_running_task(place: Site) -> None:
    """A message that waits comes back after a tenth of a second: less than RabbitMQ's delayed delivery can."""
    first = tasks.gated.delay("a")
    runs(place)
    second = tasks.gated.delay("a")
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    members_take_over(place, first, second)
    ended(tasks.gated, "a")


def test_chain_of_equal_calls_runs_both(place: Site) -> None:
    assert chain(tasks.unique.si("a"), tasks.unique.si("a"))().get(timeout=20)[0] == "a"
    assert len(journal.read("start")) == 2


@pytest.mark.parametrize("delay", ["short", "long"])
def test_retries_come_after_their_delays_and_keep_the_claim(place: Site, delay: str) -> None:
    """On quorum queues the broker waits for the long ones: the second retry comes from its delayed delivery."""
    seconds = 1.6 if delay == "long" and is_quorum(place) else 0.2
    with taking(2 * seconds, 2 * seconds + 4):
        first = tasks.retried_after.delay("a", seconds)
        wait_until(lambda: journal.read("try"), what="the first try")
        assert tasks.retried_after.delay("a", seconds).id == first.id
        assert first.get(timeout=20) == "a"
    assert [line[2:] for line in journal.read("try")] == [[first.id, number] for number in range(3)]
    ended(tasks.retried_after, "a", seconds)


@pytest.mark.django_db(transaction=True)
def test_message_waits_for_its_time(place: Site) -> None:
    waits: dict[str, dict[str, Any]] = {
        "short countdown": {"countdown": 0.5},
        "countdown": {"countdown": 2.0},
        "eta": {"eta": timezone.now() + timedelta(seconds=2.2)},
    }
    began = time.monotonic()
    with transaction.atomic():
        plain = {name: tasks.add.apply_async_on_commit((1, 2), **wait) for name, wait in waits.items()}
        unique = {name: tasks.unique.apply_async_on_commit((name,), **wait) for name, wait in waits.items()}
        assert not any(tasks.unique.is_processing((name,)) for name in waits)
    assert [tasks.unique.delay(name).id for name in waits] == [result.id for result in unique.values()]
    for name, least in (("short countdown", 0.5), ("countdown", 2.0), ("eta", 2.0)):
        if name == "countdown":
            # On quorum queues a worker must not hold what waits for long, as it can't take more instead.
            held = [received(place, result.id) for result in (plain[name], unique[name])]
            assert held == ([0, 0] if is_quorum(place) else [1, 1])
        assert plain[name].get(timeout=20) == 3
        assert unique[name].get(timeout=20) == [name, unique[name].id]
        assert least <= time.monotonic() - began < least + 5
        ended(tasks.unique, name)


def test_message_that_is_put_back_keeps_its_claim_and_runs_again(place: Site) -> None:
    result = tasks.requeued_once.delay("a")
    assert result.get(timeout=20) == "a"
    assert [line[2] for line in runs(place, 2)] == [result.id] * 2
    ended(tasks.requeued_once, "a")


def test_child_that_was_killed_leaves_its_message_to_another(place: Site) -> None:
    result = tasks.dies_once.delay("a")
    assert result.get(timeout=20) == "second"
    assert [line[2] for line in runs(place, 2)] == [result.id] * 2
    ended(tasks.dies_once, "a")


def test_worker_that_was_killed_leaves_its_message_to_another(place: Site) -> None:
    """The last test of a type: it kills the worker of the others."""
    first, second = place.worker, place.start_worker()
    result = tasks.gated_late.delay("a")
    runs(place)
    if f"[{result.id}] received" in second.log():
        first, second = second, first
    first.kill()
    began = time.monotonic()
    second.wait_for_log(f"[{result.id}] received")  # RabbitMQ brings it back at once …
    assert tasks.gated_late.delay("a").id == result.id, "the claim still stands"
    runs(place, 2)  # … and it starts when the lease has ended
    assert time.monotonic() - began < LEASE + 4
    journal.open_gate("a", times=2)
    assert result.get(timeout=20) == f"a:{result.id}"
    assert [line[2] for line in journal.read("start")] == [result.id] * 2
    assert len(journal.read("end")) == 1
    ended(tasks.gated_late, "a")
