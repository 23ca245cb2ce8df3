"""Many processes call the same task at the same moment."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.project import journal, tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROCESSES, THREADS, REPETITIONS = 8, 5, 20


def call_together(env: dict[str, str], barrier: Any, results: Any) -> None:
    """Run in a process of its own: for each repetition, all threads of all processes call at once."""
    os.environ.update(env)
    import django

    django.setup()
    from tests.project.tasks import gated

    def call(repetition: int) -> None:
        barrier.wait(60)
        results.put((repetition, gated.delay(f"key-{repetition}").id))

    for repetition in range(REPETITIONS):
        threads = [threading.Thread(target=call, args=(repetition,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)


@pytest.mark.timeout(180)
def test_forty_callers_in_eight_processes_share_one_run(live_app: Live, worker: Worker) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(PROCESSES * THREADS), context.Queue()
    env = {**live_app.env, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    callers = [
        context.Process(target=call_together, args=(env, barrier, results), daemon=True)
        for _ in range(PROCESSES)
    ]
    for caller in callers:
        caller.start()
    ids: dict[int, set[str]] = {}
    for _ in range(PROCESSES * THREADS * REPETITIONS):
        repetition, task_id = results.get(timeout=90)
        ids.setdefault(repetition, set()).add(task_id)
    for caller in callers:
        caller.join(30)
        assert caller.exitcode == 0
    assert {repetition: len(found) for repetition, found in ids.items()} == dict.fromkeys(
        range(REPETITIONS), 1
    )
    for repetition in range(REPETITIONS):
        journal.open_gate(f"key-{repetition}", times=2)
    for (task_id,) in ids.values():
        assert tasks.gated.AsyncResult(task_id).get(timeout=30)
    wait_until(lambda: live_app.queued() == 0, what="the queue is empty")
    runs = [line[1] for line in journal.read("start")]
    assert sorted(runs) == sorted(f"key-{repetition}" for repetition in range(REPETITIONS))
