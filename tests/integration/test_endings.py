"""Every ending settles the claim, at once and by its owner only, on every pool that has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.endings import tasks
from tests.endings.cases import CASES, LAST_CASES, LIMIT, MISSING
from tests.endings.stage import Stage
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.live import Live
    from tests.workers import Pool

pytestmark = pytest.mark.integration

#: Milliseconds within which a claim is settled: half a second of work on a busy machine, and none of waiting.
BOUND = 750.0
#: The same where it is Celery's timers that tell of the ending: they may be late by some of their rounds.
TIMER = 4000.0
#: Celery looks for lost children every five seconds, unless it is told.
LOST = 7000.0
#: The lease of workers that are killed in these tests.
LEASE = 2

SLOWER = {
    "soft time limit": TIMER,
    "hard time limit": TIMER,
    "revoked while it waits for its ETA": TIMER,
    "expired while it waits for its ETA": TIMER,
    "child killed (worker lost)": LOST,
    "cold shutdown (SIGQUIT)": TIMER,
    "warm, then cold shutdown (SIGTERM, SIGQUIT)": TIMER,
    "worker killed (SIGKILL)": (LEASE + 1) * 1000,
}
#: What is played on the other pools in every run; `python -m tests.endings` plays all.
HANDFUL = (
    "success",
    "failure",
    "Reject, requeue (acks_late), then success",
    "retry, then success",
    "before_start raises",
    "SystemExit",
    "hard time limit",
    "revoke(terminate=True)",
    "revoked before it was received",
    "expired while it waits for its ETA",
)


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """The worker of each pool, for all tests of this module."""
    workers: dict[str, Worker] = {}
    yield workers
    for worker in workers.values():
        worker.close()


@pytest.fixture
def stage_on(live_app: Live, workers: dict[str, Worker]) -> Callable[..., Stage]:
    """A maker of the stage on the module's worker of a pool."""

    def make(pool: Pool) -> Stage:
        number = 4 + 2 * list(MISSING).index(pool)
        live_app.use(broker_database=number, result_database=number + 1)
        worker = workers.get(pool)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
            workers[pool] = worker = Worker(app="tests.endings", pool=pool, env=live_app.env).ready()
        return Stage(worker)

    return make


@pytest.fixture
def stage(stage_on: Callable[..., Stage]) -> Stage:
    return stage_on("prefork")


@pytest.mark.parametrize("ending", CASES)
def test_ending_settles_the_claim(stage: Stage, ending: str) -> None:
    assert CASES[ending](stage) < SLOWER.get(ending, BOUND)
    assert stage.holder is None
    assert tasks.ending.apply_async((stage.key, "success"), queue="nobody").outcome == "triggered"


@pytest.mark.parametrize(
    ("pool", "ending"),
    [
        (pool, ending)
        for pool in MISSING
        for ending in HANDFUL
        if pool != "prefork"
        if ending not in MISSING[pool]
    ],
)
def test_ending_settles_the_claim_on_other_pools(
    stage_on: Callable[..., Stage], pool: Pool, ending: str
) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    assert CASES[ending](stage_on(pool)) < max(TIMER, SLOWER.get(ending, BOUND))


def test_claim_stands_until_the_body_is_dead(stage: Stage) -> None:
    """The pool tells of a hard time limit before it ends the process, which may go on for a moment."""
    stage.send("cling", time_limit=LIMIT)
    stage.go()
    wait_until(lambda: stage.holder is None, 15, what="the claim ended", interval=0.001)
    free = time.time()
    time.sleep(0.5)  # what lives on would write it down
    left = stage.left()
    assert left is not None
    assert left < free


@pytest.mark.parametrize("ending", LAST_CASES)
def test_end_of_the_worker_settles_the_claim(live_app: Live, make_worker: Any, ending: str) -> None:
    def make() -> Worker:
        worker: Worker = make_worker(
            app="tests.endings", concurrency=1, env={"TEST_LOCK_TIMEOUT": str(LEASE)}
        )
        return worker

    stage = Stage(make(), make)
    assert LAST_CASES[ending](stage) < SLOWER.get(ending, BOUND)


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("success", {}),
        ("failure", {}),
        ("ignore", {}),
        ("reject", {}),
        ("reject, requeue, acked", {}),
        ("retry", {}),
        ("retry exhausted", {}),
        ("retry unpublished", {}),
        ("replace", {}),
        ("exit", {}),
        ("kill", {}),
        ("hang", {"soft_time_limit": LIMIT}),
        ("hang", {"time_limit": LIMIT}),
        ("hang", {"revoke": True}),
    ],
)
def test_claim_that_another_task_took_meanwhile_is_left_alone(
    stage: Stage, how: str, options: dict[str, Any]
) -> None:
    revoke = options.pop("revoke", False)
    result = stage.send(how, **options)
    stage.started()
    stage.store.forget(stage.name)  # as if it had gone stale
    other = tasks.ending.apply_async((stage.key, how), queue=stage.parked)
    assert stage.holder is not None
    assert stage.holder.task_id == other.id
    wait_until(stage.is_active, what="the worker knows that it runs")
    if revoke:
        result.revoke(terminate=True)
    stage.go(times=2)
    wait_until(
        lambda: not stage.is_active(),
        what=lambda: f"the task has ended; {stage.worker.log()[-3000:]}",
        interval=0.05,
    )
    held = stage.holder
    assert held is not None
    assert (held.task_id, held.token) == (other.id, "")
