"""Locks, semaphores and mutexes of tasks on real workers, as ZKCelery's page shows them and beyond."""

from __future__ import annotations

import os
import signal
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from celery import chord, group
from celery.exceptions import MaxRetriesExceededError, TimeLimitExceeded

from django_celery_extensions import locks
from tests.project import journal, locking
from tests.project.tasks import collect
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import MakeWorker
    from tests.live import Live
    from tests.workers import Worker

pytestmark = pytest.mark.integration


def lines(*events: str) -> list[list[Any]]:
    return journal.read(*events)


def wait_for(event: str, count: int = 1) -> None:
    wait_until(lambda: len(lines(event)) >= count, what=lambda: f"{count} x {event} in {lines()}", timeout=15)


def holds(task: Any, *args: Any, kind: str = "lock") -> bool:
    return bool(locks.holders(task.name, *args, kind=kind))


# the page of ZKCelery


def test_lock_is_one_at_a_time(shared_worker: Worker) -> None:
    first = locking.locking_task.delay("a")
    wait_for("start")
    assert locking.locking_task.delay("b").get(timeout=10) == "held"
    (holder,) = locks.holders(locking.locking_task.name)
    assert holder.owner == f"{first.id} {shared_worker.hostname}"
    journal.open_gate("a")
    assert first.get(timeout=10) == "done"
    assert not holds(locking.locking_task)
    assert locking.locking_task.delay("free").get(timeout=10) == "done"


@pytest.mark.usefixtures("shared_worker")
def test_refined_locks_do_not_meet_and_wait_by_retries() -> None:
    first = locking.refined.delay(1, "a")
    wait_for("start")
    assert locking.refined.delay("1", "free b").get(timeout=10) == "done"
    second = locking.refined.delay(1, "free c")
    wait_until(lambda: second.state == "RETRY", what="it retries")
    journal.open_gate("a")
    assert first.get(timeout=10) == second.get(timeout=10) == "done"
    assert [line[1] for line in lines("start")] == ["a", "free b", "free c"]


@pytest.mark.usefixtures("shared_worker")
def test_retry_options_are_those_of_a_retry() -> None:
    first = locking.retried_once.delay("a")
    wait_for("start")
    began = monotonic()
    with pytest.raises(MaxRetriesExceededError):
        locking.retried_once.delay("b").get(timeout=10)
    assert monotonic() - began >= 0.3
    journal.open_gate("a")
    assert first.get(timeout=10) == "done"


@pytest.mark.usefixtures("shared_worker")
def test_blocking_waits_its_turn() -> None:
    first = locking.blocking.delay("a")
    wait_for("start")
    second = locking.blocking.delay("free b")
    assert locking.blocking.delay("c", timeout=0.3).get(timeout=10) == "waited in vain"
    journal.open_gate("a")
    assert first.get(timeout=10) == second.get(timeout=10) == "done"
    assert [line[:2] for line in lines()] == [
        ["start", "a"],
        ["end", "a"],
        ["start", "free b"],
        ["end", "free b"],
    ]


@pytest.mark.usefixtures("shared_worker")
def test_semaphore_is_three_at_once() -> None:
    running = [locking.three_at_once.delay(name) for name in "abc"]
    wait_for("start", 3)
    assert locking.three_at_once.delay("d").get(timeout=10) == "held"
    for name in "abc":
        journal.open_gate(name)
    assert [result.get(timeout=10) for result in running] == ["done"] * 3


def test_mutex_rejects_a_second_run(shared_worker: Worker) -> None:
    first = locking.mutex_task.delay("a")
    wait_for("start")
    second = locking.mutex_task.delay("b")
    shared_worker.wait_for_log(f"{second.id}] reject requeue=False")
    journal.open_gate("a")
    assert first.get(timeout=10) == "done"
    assert locking.mutex_task.delay("free").get(timeout=10) == "done"
    assert [line[1] for line in lines("start")] == ["a", "free"]


@pytest.mark.usefixtures("shared_worker")
def test_requeued_mutex_runs_later() -> None:
    results = [locking.mutex_requeued.delay(name) for name in "abc"]
    for number in range(3):
        wait_for("start", number + 1)
        time.sleep(0.05)  # nobody else may begin meanwhile
        assert len(lines("start")) == number + 1
        journal.open_gate(lines("start")[-1][1])
        wait_for("end", number + 1)
    assert [result.get(timeout=20) for result in results] == ["done"] * 3


def test_mutex_keys_refine_the_mutex(shared_worker: Worker) -> None:
    first = locking.mutex_per_server.delay("one", data="a")
    wait_for("start")
    assert holds(locking.mutex_per_server, "one", kind="mutex")
    assert locking.mutex_per_server.delay(server_name="two", data="free b").get(timeout=10) == "done"
    third = locking.mutex_per_server.delay(server_name="one", data="free c")
    shared_worker.wait_for_log(f"{third.id}] reject requeue=False")
    journal.open_gate("a")
    assert first.get(timeout=10) == "done"


# mutexes


@pytest.mark.usefixtures("shared_worker")
def test_requeue_costs_no_retry_and_is_no_hot_loop(live_app: Live) -> None:
    """Also with acks_late: the message comes back as a new one, after a delay that grows."""
    first = locking.requeued_late.delay("a")
    wait_for("start")
    with live_app.broker.counting() as counted:
        second = locking.requeued_late.delay("free b", failures=2)
        time.sleep(2)  # 0.1 + 0.2 + 0.4 + 0.8 s
    assert counted["lpush"] <= 7, "a message, and four more"
    journal.open_gate("a")
    assert first.get(timeout=10) == "a"
    assert second.get(timeout=20) == "free b"
    assert [line[2] for line in lines("start") if line[1] == "free b"] == [0, 1, 2]


@pytest.mark.usefixtures("shared_worker")
def test_one_running_and_one_queued() -> None:
    first = locking.one_and_one.delay("a")
    wait_for("start")
    second = locking.one_and_one.delay("a")
    time.sleep(3)  # it has come to its start more than once, and longer than its stale limit ago
    third = locking.one_and_one.delay("a")
    assert (second.outcome, third.outcome) == ("triggered", "unique")
    assert third.id == second.id
    journal.open_gate("a", times=2)
    assert first.get(timeout=10) == second.get(timeout=20) == third.get(timeout=5) == "done"
    assert len(lines("start")) == 2
    assert not locking.one_and_one.is_processing(("a",))


@pytest.mark.usefixtures("shared_worker")
def test_mutex_waits_for_a_store_that_is_away(live_app: Live) -> None:
    """An outage is not "somebody else holds it": the message comes back, and is not rejected."""
    with live_app.store.frozen():
        result = locking.mutex_requeued.delay("free a")
        time.sleep(1)
    assert result.get(timeout=30) == "done"


@pytest.mark.usefixtures("shared_worker")
def test_rejected_mutex_hangs_no_chord() -> None:
    """A member that were rejected would leave its chord waiting for ever: it comes back instead."""
    header = [locking.mutex_task.si(f"free {n}") for n in range(4)]
    assert chord(header, collect.s()).delay().get(timeout=30) == ["done"] * 4
    assert group(header).delay().get(timeout=30) == ["done"] * 4


# endings


@pytest.mark.parametrize("how", ["return", "error", "retry"])
@pytest.mark.usefixtures("shared_worker")
def test_lock_ends_with_its_block(how: str) -> None:
    result = locking.ends_within_lock.delay(how)
    wait_for("start")
    wait_until(lambda: result.state in ("SUCCESS", "FAILURE", "RETRY"), what=lambda: result.state)
    assert not holds(locking.ends_within_lock)


@pytest.mark.parametrize("how", ["soft", "hard", "terminate"])
@pytest.mark.usefixtures("shared_worker")
def test_lock_ends_with_the_time_limit_and_the_revoke(how: str) -> None:
    options = {"soft": {"soft_time_limit": 1}, "hard": {"time_limit": 1}}.get(how, {})
    result = locking.ends_within_lock.apply_async(("hang",), **options)
    wait_for("start")
    assert holds(locking.ends_within_lock)
    if how == "terminate":
        result.revoke(terminate=True)
    began = monotonic()
    wait_until(lambda: not holds(locking.ends_within_lock), timeout=10, what="the lock is free")
    assert monotonic() - began < 5, "long before its lease of 15 s ends"
    if how == "hard":
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=10)


def test_killed_workers_lock_is_free_within_its_lease(make_worker: MakeWorker) -> None:
    worker = make_worker(env={"TEST_LOCK_TIMEOUT": "2"})
    locking.watches_its_lock.delay("a")
    wait_for("start")
    time.sleep(2.5)  # the heartbeat of a living worker keeps it longer than a lease
    assert holds(locking.watches_its_lock)
    began = monotonic()
    worker.kill()
    wait_until(lambda: not holds(locking.watches_its_lock), timeout=10, what="the lock is free")
    assert monotonic() - began <= 3


def test_frozen_worker_finds_its_lock_lost_and_the_next_fence_is_greater(make_worker: MakeWorker) -> None:
    worker = make_worker(env={"TEST_LOCK_TIMEOUT": "2"})
    first = locking.watches_its_lock.delay("a")
    wait_for("start")
    with_fence = lines("start")[0][2]
    worker.freeze()
    began = monotonic()
    with locks.lock(locking.watches_its_lock.name, blocking=True, timeout=10) as lock:
        assert monotonic() - began <= 3
        assert lock
        assert lock.fence > with_fence
        worker.thaw()
        assert first.get(timeout=10) == "lost"
        lock.ensure()
        (holder,) = locks.holders(locking.watches_its_lock.name)
        assert holder.fence == lock.fence, "the late one gave nothing back that was not its own"


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_other_pools_lock_too(pool: Any, make_worker: MakeWorker) -> None:
    make_worker(pool=pool, concurrency=1 if pool == "solo" else 2)
    with locks.lock(locking.locking_task.name):
        assert locking.locking_task.delay("free a").get(timeout=10) == "held"
        result = locking.blocking.delay("free b")
        assert result.get(timeout=10) == "done"
    assert locking.locking_task.delay("free c").get(timeout=10) == "done"
    with locks.lock(locking.blocking.name) as lock:
        assert lock
        waiting = locking.blocking.delay("free d", timeout=0.3)
        assert waiting.get(timeout=10) == "waited in vain"


def test_lock_is_not_inherited_by_a_child(live_app: Live) -> None:
    """A forked child holds nothing of its parent's: it renews nothing, and its end gives nothing back."""
    with locks.lock("forked") as lock:
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        assert lock
        lock.ensure()
        assert locks.holders("forked")
    assert not locks.holders("forked")
