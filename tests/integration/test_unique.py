"""Unique tasks on a real worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group

from django_celery_extensions.invocation import Outcome
from tests.project import journal, tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration]


def test_duplicate_joins_the_running_task(live_app: Live, worker: Worker) -> None:
    first = tasks.gated.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    second = tasks.gated.delay("a")
    other = tasks.gated.delay("b")
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    assert other.id != first.id
    assert tasks.gated.is_processing(("a",))
    journal.open_gate("a")
    journal.open_gate("b")
    assert first.get(timeout=10) == second.get(timeout=10) == f"a:{first.id}"
    assert other.get(timeout=10)
    wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the claim has ended")
    assert len(journal.read("start")) == 2


def test_claim_is_kept_through_retries(live_app: Live, worker: Worker) -> None:
    first = tasks.flaky.delay("a")
    wait_until(lambda: journal.read("try"), what="the first try")
    assert tasks.flaky.delay("a").id == first.id
    wait_until(lambda: len(journal.read("try")) == 2, what="the second try")
    assert tasks.flaky.delay("a").id == first.id
    assert first.get(timeout=10) == "a"
    assert [line[3] for line in journal.read("try")] == [0, 1, 2]
    assert not tasks.flaky.is_processing(("a",))


def test_chain_of_the_same_call_runs_twice(live_app: Live, worker: Worker) -> None:
    result = chain(tasks.unique.si(7), tasks.unique.si(7))()
    assert result.get(timeout=10) == [7, result.id]
    assert result.parent is not None
    assert result.parent.get(timeout=10) == [7, result.parent.id]
    assert len(journal.read("start")) == 2


def test_duplicates_in_a_chord_take_over_the_result(live_app: Live, worker: Worker) -> None:
    result = chord([tasks.unique.si("x", 0.3) for _ in range(3)])(tasks.collect.s())
    values = result.get(timeout=20)
    assert len(values) == 3
    assert len({value[1] for value in values}) == len(journal.read("start")), "each run told its own id"


def test_duplicate_with_link_keeps_its_callback(live_app: Live, worker: Worker) -> None:
    first = tasks.gated.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    second = tasks.gated.apply_async(("a",), link=tasks.note.s("linked"))
    assert second.id != first.id
    journal.open_gate("a")
    wait_until(second.ready, what=lambda: f"the duplicate has its result; {worker.log()}")
    assert second.get(timeout=10) == f"a:{first.id}"
    wait_until(lambda: journal.read("note"), what="the callback ran")
    assert journal.read("note") == [["note", f"a:{first.id}", "linked"]]
    assert len(journal.read("start")) == 1


def test_group_of_duplicates_ends(live_app: Live, worker: Worker) -> None:
    result = group(tasks.unique.si("g", 0.2) for _ in range(4))()
    assert len(result.get(timeout=20)) == 4


@pytest.mark.parametrize("how", ["error", "ignore", "reject", "exit", "kill", "hard", "soft"])
def test_every_ending_frees_the_key(live_app: Live, worker: Worker, how: str) -> None:
    options: dict[str, Any] = {"hard": {"time_limit": 1}, "soft": {"soft_time_limit": 1}}.get(how, {})
    tasks.ends.apply_async((how,), **options)
    wait_until(lambda: journal.read("start"), what="the body runs")
    wait_until(lambda: not tasks.ends.is_processing((how,)), what=lambda: f"the key is free; {worker.log()}")


def test_revoke_of_a_running_task_frees_the_key(live_app: Live, worker: Worker) -> None:
    result = tasks.ends.delay("hang")
    wait_until(lambda: journal.read("start"), what="the body runs")
    result.revoke(terminate=True)
    wait_until(lambda: not tasks.ends.is_processing(("hang",)), what="the key is free")


def test_revoked_before_a_worker_took_it(live_app: Live, make_worker: Any) -> None:
    worker = make_worker()
    result = tasks.ends.apply_async(("hang",), countdown=2)
    result.revoke()
    wait_until(
        lambda: not tasks.ends.is_processing(("hang",)), what=lambda: f"the key is free {worker.log()}"
    )


def test_sent_without_us_is_claimed_at_its_start(live_app: Live, worker: Worker) -> None:
    sent = live_app.app.send_task("tests.project.tasks.gated", ("a",))
    wait_until(lambda: journal.read("start"), what="the body runs")
    assert tasks.gated.delay("a").id == sent.id
    journal.open_gate("a")
    sent.get(timeout=10)
    wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the claim has ended")


def test_newest_queued_call_wins(live_app: Live, make_worker: Any) -> None:
    results = [tasks.latest.delay("doc", text) for text in ("one", "two", "three")]
    assert len({result.id for result in results}) == 3
    make_worker()
    assert results[2].get(timeout=10) == "three"
    assert results[0].get(timeout=10) is None
    assert results[0].state == "IGNORED"
    assert [line[3] for line in journal.read("start")] == ["three"]
