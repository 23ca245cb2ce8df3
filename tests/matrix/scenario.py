"""What every cell must do, with a real worker. `tests.matrix.run` runs it with pytest, in the cell's environment.

It is not collected otherwise. The tests run in this order, on one worker; the last one kills it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import django
import pytest
from celery import chain, chord
from django.core.management import call_command
from django.db import transaction

from django_celery_extensions import locks
from django_celery_extensions.invocation import Outcome
from tests.matrix import journal, tasks
from tests.matrix.settings import CELL
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.result import AsyncResult

#: Seconds that anything may take; the machine may be busy.
PATIENCE = 40.0

needs = {
    name: pytest.mark.skipif(name in CELL["lacks"], reason=CELL["lacks"].get(name, ""))
    for name in ("results", "chords", "remote control")
}


@pytest.fixture(scope="session", autouse=True)
def worker() -> Iterator[Worker]:
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    settings = {"DJANGO_SETTINGS_MODULE": "tests.matrix.settings"}
    worker = Worker(app="tests.matrix.tasks", pool=CELL["pool"], env=settings)
    try:
        yield worker.ready()
    finally:
        worker.close()


@pytest.fixture(autouse=True)
def log_of_worker(request: pytest.FixtureRequest, worker: Worker) -> Iterator[None]:
    """A failed test shows what the worker wrote meanwhile."""
    before = len(worker.log())
    yield
    request.node.add_report_section("teardown", "worker", worker.log()[before:][-6000:])


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def started(key: str, times: int = 1) -> list[list[Any]]:
    """Wait until bodies with this key have started so many times."""
    return wait_until(
        lambda: len(lines := journal.read("start", key)) >= times and lines,
        PATIENCE,
        what=f"{key} starts ({times})",
        interval=0.02,
    )


def is_free(task: Any, *args: Any) -> None:
    """Wait until nobody has the claim."""
    wait_until(
        lambda: not task.is_processing(args), PATIENCE, what=f"the claim of {args} ends", interval=0.02
    )


def brings(result: AsyncResult[Any], value: Any) -> None:
    """Wait for the result, where there are results."""
    if "results" not in CELL["lacks"]:
        assert result.get(timeout=PATIENCE) == value


def test_plain_call(key: str) -> None:
    result = tasks.add.delay(key, 1, 2)
    started(key)
    brings(result, 3)


def test_duplicate_joins(key: str) -> None:
    first = tasks.gated.delay(key)
    started(key)
    second = tasks.gated.delay(key)
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    journal.open_gate(key)
    brings(first, f"{key}:{first.id}")
    is_free(tasks.gated, key)
    assert len(journal.read("start", key)) == 1


def test_ignore_window(key: str) -> None:
    first = tasks.windowed.delay(key)
    started(key)
    brings(first, key)
    second = wait_until(
        lambda: (result := tasks.windowed.delay(key)).outcome == Outcome.IGNORED and result,
        PATIENCE,
        what="the window is open",
    )
    assert second.state == "IGNORED"
    assert second.get() is None
    assert tasks.windowed.delay(key + " other").outcome == Outcome.TRIGGERED


def test_retries_keep_the_claim(key: str) -> None:
    first = tasks.flaky.delay(key)
    started(key)
    assert tasks.flaky.delay(key).id == first.id, "it waits for its retry, or is about to"
    started(key, 2)
    assert tasks.flaky.delay(key).id == first.id, "its retry runs"
    journal.open_gate(key)
    brings(first, key)
    is_free(tasks.flaky, key)
    assert [line[2] for line in started(key, 3)] == [0, 1, 2]


def test_failure_ends_the_claim(key: str) -> None:
    first = tasks.broken.delay(key)
    started(key)
    is_free(tasks.broken, key)
    if "results" not in CELL["lacks"]:
        with pytest.raises(LookupError):
            first.get(timeout=PATIENCE)
    assert tasks.broken.delay(key).outcome == Outcome.TRIGGERED
    started(key, 2)


def test_expired_message_ends_its_claim(key: str) -> None:
    result = tasks.quick.apply_async((key,), countdown=1, expires=0.5)
    assert tasks.quick.delay(key).id == result.id
    is_free(tasks.quick, key)
    assert not journal.read("start", key)


@needs["remote control"]
def test_revoked_message_ends_its_claim(key: str) -> None:
    result = tasks.quick.apply_async((key,), countdown=1)
    assert tasks.quick.delay(key).id == result.id
    result.revoke()
    is_free(tasks.quick, key)
    assert not journal.read("start", key)


def test_on_commit(key: str) -> None:
    with transaction.atomic():
        committed = tasks.quick.delay_on_commit(key)
        assert (committed.outcome, committed.state) == (Outcome.WAITING, "WAITING")
        with transaction.atomic():
            rolled_back = tasks.quick.delay_on_commit(key + " rolled back")
            transaction.set_rollback(True)
    assert committed.outcome == Outcome.TRIGGERED
    assert rolled_back.outcome == Outcome.WAITING
    started(key)
    brings(committed, key)
    assert not journal.read("start", key + " rolled back")


def test_many_at_once(key: str) -> None:
    first, second = key + " 1", key + " 2"
    calls: list[Any] = [((name,), {}) for name in (first, second, first)]
    results = tasks.quick.apply_async_many(calls, countdown=1)
    assert [result.outcome for result in results] == [Outcome.TRIGGERED, Outcome.TRIGGERED, Outcome.UNIQUE]
    assert results[2].id == results[0].id
    for name, result in zip((first, second), results, strict=False):
        started(name)
        brings(result, name)
        is_free(tasks.quick, name)
        assert len(journal.read("start", name)) == 1


def test_duplicate_in_a_chain(key: str, worker: Worker) -> None:
    first = tasks.gated.delay(key)
    started(key)
    last = chain(tasks.gated.si(key), tasks.arrive.s(key)).apply_async()
    if CELL["pool"] != "solo":  # its one thread is in the body
        worker.wait_for_log(f"gated[{last.parent.id}] received", timeout=PATIENCE)
    journal.open_gate(key)
    ((_, _, value),) = wait_until(
        lambda: journal.read("arrived", key), PATIENCE, what="the chain ends", interval=0.02
    )
    assert value in {f"{key}:{line[2]}" for line in journal.read("start", key)}
    brings(last, value)
    is_free(tasks.gated, key)
    brings(first, f"{key}:{first.id}")


@needs["results"]
@needs["chords"]
def test_duplicate_in_a_chord(key: str) -> None:
    first = tasks.gated.delay(key)
    started(key)
    body = chord([tasks.gated.si(key), tasks.quick.si(key)])(tasks.arrive.s(key))
    journal.open_gate(key)
    value, other = body.get(timeout=PATIENCE)
    assert value in {f"{key}:{line[2]}" for line in journal.read("start", key) if len(line) > 2}
    assert other == key
    brings(first, f"{key}:{first.id}")
    is_free(tasks.gated, key)


def test_lock_keeps_others_out(key: str) -> None:
    with locks.lock(tasks.locked.name, key) as lock:
        assert lock
        outside = tasks.locked.delay(key, 1)
        wait_until(lambda: journal.read("outside", key), PATIENCE, what="the task finds the lock held")
        lock.ensure()
    brings(outside, "held")
    inside = tasks.locked.delay(key, 2)
    wait_until(lambda: journal.read("inside", key), PATIENCE, what="the task finds the lock free")
    brings(inside, "done")


def test_killed_worker_frees_its_key(key: str, worker: Worker) -> None:
    result = tasks.killed.delay(key)
    started(key)
    worker.kill()
    assert worker.returncode == -signal.SIGKILL
    assert tasks.killed.delay(key).id == result.id
    wait_until(
        lambda: not tasks.killed.is_processing((key,)),
        tasks.LEASE + 2,
        what="the claim ends with its lease",
        interval=0.05,
    )
    assert tasks.killed.delay(key).outcome == Outcome.TRIGGERED
