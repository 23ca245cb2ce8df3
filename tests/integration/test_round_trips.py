"""What a call and a run cost at the store, by its own command counters (contract, 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.invocation import Outcome
from tests.project import tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration]


class Trips:
    """Counts the commands that a store gets: whatever reaches it is a round trip of ours."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._before = self._count()

    def _count(self) -> dict[str, int]:
        own = {
            "info",
            "flushall",
            "config|resetstat",
            "client|setinfo",
            "hello",
            "select",
            "ping",
            "script|load",
        }
        # A command that a script runs counts in the server's statistics, but is no trip of its own.
        inner = {"get", "hmget", "hset", "pexpire", "del", "set", "time", "hget", "hdel", "pttl"}
        return {name: n for name, n in self._live.store.commands().items() if name not in own | inner}

    def since(self) -> dict[str, int]:
        now = self._count()
        spent = {
            name: n - self._before.get(name, 0) for name, n in now.items() if n != self._before.get(name, 0)
        }
        self._before = now
        return spent


@pytest.fixture
def trips(live_app: Live) -> Trips:
    # Every script is known to the server: it is sent in full only once in a server's life.
    tasks.silent.delay("warm-up")
    tasks.ignored_after_success.apply_async(("warm-up",))
    live_app.app.control.purge()
    return Trips(live_app)


def run_and_wait(trips: Trips, send: Callable[[], Any]) -> Any:
    result = send()
    result.get(timeout=15)
    wait_until(lambda: trips.since() or True, what="counted")
    return result


@pytest.mark.django_db(transaction=True)
def test_plain_task_costs_nothing(live_app: Live, trips: Trips, worker: Worker) -> None:
    trips.since()
    assert tasks.add.delay(1, 2).get(timeout=15) == 3
    assert tasks.add.delay_on_commit(1, 2).get(timeout=15) == 3
    assert trips.since() == {}


def test_unique_call_costs_one_trip_and_so_does_a_joined_one(live_app: Live, trips: Trips) -> None:
    queued = live_app.queued()
    tasks.silent.delay("a")
    assert trips.since() == {"evalsha": 1}
    assert live_app.queued() == queued + 1
    joined = tasks.silent.delay("a")
    assert joined.outcome is Outcome.UNIQUE
    assert trips.since() == {"evalsha": 1}
    assert live_app.queued() == queued + 1, "nothing is published for a duplicate"


def test_unique_run_costs_one_trip_at_the_start_and_one_at_the_end(
    live_app: Live, trips: Trips, make_worker: Any
) -> None:
    make_worker(pool="solo")
    tasks.silent.delay("warm-up-2").get(timeout=15)
    wait_until(lambda: not tasks.silent.is_processing(("warm-up-2",)), what="settled")
    trips.since()
    tasks.silent.delay("b").get(timeout=15)
    # The claim ends before the result is stored, so nothing is under way any more.
    assert trips.since() == {"evalsha": 3}


def test_ignore_window_costs_one_trip_each_time(live_app: Live, trips: Trips, make_worker: Any) -> None:
    make_worker(pool="solo")
    tasks.ignored_after_success.delay("warm-up-2").get(timeout=15)
    trips.since()
    assert tasks.ignored_after_success.delay("c").get(timeout=15) == "c"
    assert trips.since() == {"evalsha": 3}
    assert tasks.ignored_after_success.delay("c").outcome is Outcome.IGNORED
    assert trips.since() == {"evalsha": 1}


def test_many_calls_cost_one_trip(live_app: Live, trips: Trips) -> None:
    results = tasks.silent.delay_many([(index,) for index in (1, 2, 3, 1)])
    assert [result.outcome for result in results] == [Outcome.TRIGGERED] * 3 + [Outcome.UNIQUE]
    assert results[3].id == results[0].id
    assert trips.since() == {"evalsha": 1}
