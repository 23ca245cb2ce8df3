"""Ignore windows on a real worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.project import journal, tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration]


def test_two_runs_at_once_do_not_both_succeed_within_a_window(live_app: Live, worker: Worker) -> None:
    """The task is not unique: both calls are sent, and both messages are taken by a free process."""
    first, second = (tasks.gated_window.delay("a") for _ in range(2))
    wait_until(lambda: journal.read("start"), what="a body runs")
    wait_until(lambda: "is held by task" in worker.log(), what=worker.log)
    journal.open_gate("a", times=2)
    results = [result.get(timeout=20) for result in (first, second)]
    states = sorted(result.state for result in (first, second))
    assert states == ["IGNORED", "SUCCESS"]
    assert sorted(results, key=str) == [None, "a"]
    assert len(journal.read("start")) == 1


def test_run_that_waited_runs_when_the_other_one_fails(live_app: Live, make_worker: Any) -> None:
    worker: Worker = make_worker()
    first, second = (tasks.fails_first.delay("a") for _ in range(2))
    wait_until(lambda: journal.read("start"), what="a body runs")
    wait_until(lambda: "is held by task" in worker.log(), what=worker.log)
    journal.open_gate("a", times=2)
    wait_until(lambda: first.ready() and second.ready(), timeout=20, what="both have ended")
    assert sorted([first.state, second.state]) == ["FAILURE", "SUCCESS"]


def test_newest_call_wins_also_when_it_comes_first(live_app: Live, worker: Worker) -> None:
    """A replaced message comes when the claim that replaced it has ended already."""
    old = tasks.latest.apply_async(("doc", "old"), countdown=2)
    new = tasks.latest.apply_async(("doc", "new"))
    assert new.get(timeout=10) == "new"
    assert old.get(timeout=10) is None
    assert old.state == "IGNORED"
    assert [line[3] for line in journal.read("start")] == ["new"]
