"""Duplicates and ignored members inside chains, groups and chords: nothing hangs, nothing is lost."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group

from tests.endings.members import (
    CANVASES,
    Sad,
    arrive,
    build,
    lament,
    member,
    quiet,
    same,
    send,
    windowed,
)
from tests.project import journal
from tests.project.tasks import collect
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from tests.live import Live

pytestmark = pytest.mark.integration


@pytest.fixture
def worker(live_app: Live, workers: list[Worker]) -> Worker:
    """The worker of this module, with four processes."""
    live_app.use(broker_database=12, result_database=13)
    if not workers:
        workers.append(Worker(app="tests.endings", concurrency=4, env=live_app.env).ready())
    return workers[0]


def launch(canvas: str, name: str, key: str, sender: str, **options: Any) -> None:
    (send if sender == "client" else send.delay)(canvas, name, key, **options)


def active(task: Any, key: str) -> Any:
    """Send a task and wait until its body runs."""
    result = task.delay(key)
    wait_until(lambda: started(key), what="the body runs")
    return result


def started(key: str) -> list[list[Any]]:
    return [line for line in journal.read("start") if line[1] == key]


def arrived(times: int, worker: Worker) -> list[Any]:
    """Wait until so many canvases have come to their ends; the values they brought."""
    lines = wait_until(
        lambda: len(found := journal.read("arrived")) >= times and found,
        timeout=20,
        what=lambda: f"{times} arrive; {journal.read()} {worker.log()[-4000:]}",
    )
    return [line[1] for line in lines]


def flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, list) else [value]


def deliveries(worker: Worker, name: str, task_id: str | None = None) -> int:
    """How often the worker received a task, or the tasks of a name."""
    wanted = re.escape(task_id) if task_id else "[^]]+"
    return len(re.findall(rf"\.{name}\[{wanted}\] received", worker.log()))


def members(worker: Worker) -> set[str]:
    """The task ids of all members that the worker has received."""
    return set(re.findall(r"\.member\[([^]]+)\] received", worker.log()))


def duplicates_came(worker: Worker, canvas: str, before: set[str]) -> None:
    """Wait until a canvas has sent its duplicates: before that, they are none once the active task has ended."""
    together = ("group in a chain", "chains in a group", "header of a chord", "chord in a group in a chain")
    count = 2 if canvas in together else 1
    wait_until(
        lambda: len(members(worker) - before) >= count,
        timeout=20,
        what=lambda: f"{count} duplicates come; {worker.log()[-3000:]}",
    )


@pytest.mark.parametrize("sender", ["client", "worker"])
@pytest.mark.parametrize("canvas", CANVASES)
def test_duplicates_take_over_the_result_of_the_active_task(worker: Worker, canvas: str, sender: str) -> None:
    key = f"{canvas} {sender}"
    first = active(member, key)
    before = members(worker)
    launch(canvas, "member", key, sender)
    duplicates_came(worker, canvas, before)
    assert not journal.read("arrived")
    journal.open_gate(key, times=4)
    ends = 2 if canvas == "chains in a group" else 1
    values = flat(arrived(ends, worker))
    followed = [value for value in values if value not in ("x", "y")]
    runs = [line[2] for line in started(key)]
    assert set(followed) <= {f"{key}:{task_id}" for task_id in runs}
    # The second step of a chain comes after the active task: it is no duplicate any more.
    assert len(runs) == (2 if canvas == "twice in a chain" else 1)
    assert canvas == "twice in a chain" or set(followed) == {f"{key}:{first.id}"}
    assert len(journal.read("arrived")) == ends
    wait_until(lambda: not member.is_processing((key,)), what="the key is free")


@pytest.mark.parametrize("canvas", CANVASES)
def test_duplicates_within_one_canvas_end(worker: Worker, canvas: str) -> None:
    key = f"alone {canvas}"
    journal.open_gate(key, times=4)
    launch(canvas, "member", key, "client")
    values = flat(arrived(2 if canvas == "chains in a group" else 1, worker))
    ids = {line[2] for line in started(key)}
    assert {value for value in values if value not in ("x", "y")} <= {f"{key}:{task_id}" for task_id in ids}


@pytest.mark.parametrize("sender", ["client", "worker"])
@pytest.mark.parametrize("canvas", CANVASES)
def test_ignored_members_take_over_the_last_result(worker: Worker, canvas: str, sender: str) -> None:
    key = f"ignored {canvas} {sender}"
    last = windowed.delay(key)
    assert last.get(timeout=10) == f"{key}:{last.id}"
    launch(canvas, "windowed", key, sender)
    values = flat(arrived(2 if canvas == "chains in a group" else 1, worker))
    assert {value for value in values if value not in ("x", "y")} == {f"{key}:{last.id}"}
    assert len(started(key)) == 1


@pytest.mark.parametrize("canvas", CANVASES)
def test_with_no_result_to_take_over_it_runs_after_the_active_task(worker: Worker, canvas: str) -> None:
    key = f"quiet {canvas}"
    first = active(quiet, key)
    build(canvas, "quiet", key).apply_async()
    journal.open_gate(key, times=4)
    arrived(2 if canvas == "chains in a group" else 1, worker)
    lines = [line[:3] for line in journal.read("start", "end") if line[1] == key]
    assert len(lines) > 2
    assert lines[:2] == [["start", key, first.id], ["end", key, first.id]]
    assert [line[0] for line in lines] == ["start", "end"] * (len(lines) // 2), "one after the other"


@pytest.mark.filterwarnings(
    "ignore:task_allow_error_cb_on_chord_header"
)  # Celery's word on errbacks of chords
@pytest.mark.parametrize("sender", ["client", "worker"])
@pytest.mark.parametrize(
    "canvas", ["first of a chain", "last of a chain", "header of a chord", "with a link"]
)
def test_failure_of_the_active_task_reaches_the_errback(worker: Worker, canvas: str, sender: str) -> None:
    key = f"sad {canvas} {sender}"
    active(member, key)
    before = members(worker)
    launch(canvas, "member", key, sender, errback=canvas != "with a link")
    duplicates_came(worker, canvas, before)
    journal.open_gate(key, times=4)
    wait_until(
        lambda: journal.read("lament"), timeout=20, what=lambda: f"the errback runs; {worker.log()[-3000:]}"
    )
    assert not journal.read("arrived")
    assert len(started(key)) == 1


def test_results_of_a_canvas_are_those_of_the_active_task(worker: Worker) -> None:
    first = active(member, "results")
    of_chain = chain(member.si("results"), same.s())()
    of_group = group(member.si("results") for _ in range(3))()
    of_chord = chord([member.si("results"), same.si("x")])(collect.s())
    journal.open_gate("results", times=4)
    value = f"results:{first.id}"
    assert of_chain.get(timeout=20) == value
    assert of_chain.id != first.id
    assert of_group.get(timeout=20) == [value] * 3
    assert of_chord.get(timeout=20) == [value, "x"]
    assert len(started("results")) == 1


def test_failure_of_the_active_task_is_the_failure_of_the_canvas(worker: Worker) -> None:
    active(member, "sad results")
    of_chain = chain(member.si("sad results"), arrive.s())()
    of_group = group(member.si("sad results"), same.si("x"))()
    journal.open_gate("sad results", times=4)
    with pytest.raises(Sad):
        of_chain.get(timeout=20)
    with pytest.raises(Sad):
        of_group.get(timeout=20)
    assert of_group.results[1].get(timeout=20) == "x"
    assert not journal.read("arrived")


def test_callbacks_of_many_followers_all_run(worker: Worker) -> None:
    first = active(member, "many")
    followers = [member.apply_async(("many",), link=arrive.s(str(number))) for number in range(5)]
    assert len({result.id for result in [first, *followers]}) == 6
    journal.open_gate("many", times=6)
    assert arrived(5, worker) == [f"many:{first.id}"] * 5
    assert sorted(line[2] for line in journal.read("arrived")) == ["0", "1", "2", "3", "4"]
    assert {result.get(timeout=10) for result in followers} == {f"many:{first.id}"}


def test_errbacks_of_many_followers_all_run(worker: Worker) -> None:
    active(member, "sad many")
    followers = [member.apply_async(("sad many",), link_error=lament.s()) for _ in range(3)]
    journal.open_gate("sad many", times=6)
    wait_until(lambda: len(journal.read("lament")) == 3, timeout=20, what="all errbacks run")
    assert {line[1] for line in journal.read("lament")} == {result.id for result in followers}


def test_waiting_costs_no_retries_and_no_busy_loop(worker: Worker) -> None:
    active(quiet, "patient")
    follower = quiet.apply_async(("patient",), link=arrive.si("patient"))
    before = deliveries(worker, "quiet")
    moment = time.monotonic()
    wait_until(lambda: time.monotonic() - moment > 3, what="it has waited for three seconds")
    # 0.1, 0.2, 0.4 … seconds: five times in three seconds, and the first delivery may have been counted before.
    assert 3 <= deliveries(worker, "quiet") - before <= 6
    assert deliveries(worker, "quiet", follower.id) <= 7
    journal.open_gate("patient", times=2)
    arrived(1, worker)
    assert [line[3] for line in started("patient")] == [0, 0], "request.retries"
    assert started("patient")[1][2] == follower.id
