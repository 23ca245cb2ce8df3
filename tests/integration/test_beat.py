"""Real `celery beat` processes: one of many fires, and the next one goes on where it ended."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.leadership import beat_name
from django_celery_extensions.slots import SECOND
from django_celery_extensions.stores import lease_store, slot_store
from tests.beats import Beat
from tests.project import journal
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import MakeServer, MakeWorker
    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

LEASE, SLEEP = 3.0, 0.5
FIRED = "tests.project.tasks.fired"
#: Two entries that miss nothing.
EVERY_SECOND = {name: {"task": FIRED, "schedule": 1.0, "catch_up": ["all", 60]} for name in ("one", "two")}

MakeBeat = Callable[..., Beat]


@pytest.fixture
def make_beat(live_app: Live) -> Iterator[MakeBeat]:
    """A maker of beats on the servers of `live_app`: `make_beat(schedule=…, **arguments of Beat)`."""
    beats: list[Beat] = []

    def make(schedule: Any = EVERY_SECOND, **options: Any) -> Beat:
        given = {
            **live_app.env,
            "TEST_LOCK_TIMEOUT": str(LEASE),
            "TEST_LOCK_SLEEP": str(SLEEP),
            "TEST_BEAT_SCHEDULE": json.dumps(schedule),
        }
        beat = Beat(**{**options, "env": {**given, **options.get("env", {})}})
        beats.append(beat)
        return beat

    yield make
    for beat in beats:
        beat.thaw()
        beat.close()


def leader_pid() -> int | None:
    """Return the process that holds the leadership, as the store says."""
    holders = lease_store().holders(beat_name())
    return int(holders[0].owner.rpartition(":")[2]) if holders else None


def leader_of(beats: list[Beat], timeout: float = 20) -> Beat:
    """Wait until one of these leads."""
    pids = {beat.pid: beat for beat in beats}
    wait_until(
        lambda: leader_pid() in pids,
        timeout,
        what=lambda: "one leads:\n" + "\n".join(beat.log() for beat in beats),
        interval=0.05,
    )
    return pids[leader_pid() or 0]


def ready(beats: list[Beat]) -> None:
    """Wait until each leads or stands by."""
    wait_until(
        lambda: all(" leads: " in beat.log() or " stands by: " in beat.log() for beat in beats),
        30,
        what=lambda: "\n".join(beat.log() for beat in beats),
    )


def fired(entry: str = "one") -> list[int]:
    """Return the slots of an entry that were started, in that order."""
    return [slot for _, name, slot, *_ in journal.read("fired") if name == entry]


def wait_for_slots(count: int, entry: str = "one", timeout: float = 30) -> list[int]:
    return wait_until(
        lambda: found if len(found := fired(entry)) >= count else None,
        timeout,
        what=lambda: f"{count} slots of {entry}, not {fired(entry)}",
        interval=0.05,
    )


def assert_none_lost_or_repeated(*entries: str) -> None:
    for entry in entries:
        slots = sorted(fired(entry))
        assert {later - earlier for earlier, later in pairwise(slots)} == {SECOND}, slots


# who fires


def test_one_of_three_fires(make_beat: MakeBeat, shared_worker: Worker) -> None:
    beats = [make_beat() for _ in range(3)]
    ready(beats)
    leader = leader_of(beats)
    wait_for_slots(4)
    assert "Sending due task one" in leader.log()
    for beat in beats:
        if beat is not leader:
            assert "Sending due task" not in beat.log()
            assert "stands by" in beat.log()
        assert not [path for path in beat.directory.iterdir() if path.name != "log"]
    assert_none_lost_or_repeated("one", "two")


def test_killed_leader_is_followed_within_lease_and_sleep(make_beat: MakeBeat, shared_worker: Worker) -> None:
    beats = [make_beat() for _ in range(2)]
    ready(beats)
    leader = leader_of(beats)
    wait_for_slots(2)
    leader.kill()
    died = monotonic()
    other = leader_of([beat for beat in beats if beat is not leader], LEASE + SLEEP + 1)
    assert monotonic() - died < LEASE + SLEEP + 1
    count = len(fired())
    wait_for_slots(count + 5)
    assert other.alive
    assert_none_lost_or_repeated("one", "two")


def test_leader_that_is_told_to_end_is_followed_at_once(make_beat: MakeBeat, shared_worker: Worker) -> None:
    beats = [make_beat(env={"TEST_LOCK_TIMEOUT": "30"}) for _ in range(2)]
    ready(beats)
    leader = leader_of(beats)
    wait_for_slots(2)
    leader.stop()
    told = monotonic()
    leader_of([beat for beat in beats if beat is not leader], SLEEP + 2)
    assert monotonic() - told < SLEEP + 2
    assert leader.returncode == 0, leader.log()
    wait_for_slots(len(fired()) + 3)
    assert_none_lost_or_repeated("one", "two")


def test_frozen_leader_does_not_fire_when_it_wakes(make_beat: MakeBeat, shared_worker: Worker) -> None:
    beats = [make_beat() for _ in range(2)]
    ready(beats)
    leader = leader_of(beats)
    wait_for_slots(2)
    leader.freeze()
    leader_of([beat for beat in beats if beat is not leader], LEASE + SLEEP + 1)
    wait_for_slots(len(fired()) + 2)
    said = len(leader.log())
    leader.thaw()
    wait_until(lambda: "stands by" in leader.log()[said:], 10, what=leader.log)
    wait_for_slots(len(fired()) + 3)
    assert "Sending due task" not in leader.log()[said:]
    assert_none_lost_or_repeated("one", "two")


# between claim and sending


@pytest.mark.parametrize("harm", ["kill before", "kill after"])
def test_slot_that_may_not_have_been_sent_is_sent_again_and_started_once(
    make_beat: MakeBeat, shared_worker: Worker, tmp_path: Path, harm: str
) -> None:
    env = {"TEST_BEAT_HARM": harm, "TEST_BEAT_MARK": str(tmp_path / "mark")}
    beats = [make_beat(scheduler="tests.project.schedulers.Harmed", env=env) for _ in range(2)]
    wait_until(lambda: not all(beat.alive for beat in beats), 30, what="one was killed")
    wait_for_slots(6)
    wait_for_slots(6, "two")
    assert_none_lost_or_repeated("one", "two")
    runs = Counter(task_id for _, _, _, task_id in journal.read("fired"))
    assert set(runs.values()) == {1}


def test_leader_that_stands_still_before_sending_starts_nothing_twice(
    make_beat: MakeBeat, shared_worker: Worker, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    env = {"TEST_BEAT_HARM": "freeze before", "TEST_BEAT_MARK": str(mark), "TEST_BEAT_FREEZE": "1"}
    beats = [make_beat(scheduler="tests.project.schedulers.Harmed", env=env) for _ in range(2)]
    wait_until(mark.exists, 30, what="one stands still", interval=0.005)
    leader = leader_of(beats)
    leader.freeze()  # with its heartbeat, between the claim and the message
    wait_for_slots(3)
    leader.thaw()
    wait_for_slots(len(fired()) + 3)
    wait_until(lambda: "stands by" in leader.log(), 10, what=leader.log)
    both = "".join(beat.log() for beat in beats)
    assert "sending it again" in both
    assert_none_lost_or_repeated("one", "two")
    runs = Counter(task_id for _, _, _, task_id in journal.read("fired"))
    assert set(runs.values()) == {1}


def test_retry_and_other_tasks_run(make_beat: MakeBeat, shared_worker: Worker, live_app: Live) -> None:
    schedule = {
        "retried": {"task": "tests.project.tasks.fired_and_retried", "schedule": 1.0},
        "plain": {"task": "tests.project.tasks.fired_plainly", "schedule": 1.0},
    }
    make_beat(schedule)
    wait_until(lambda: len({line[3] for line in journal.read("fired") if line[4] == 1}) >= 2, 30)
    wait_until(lambda: len(journal.read("plain")) >= 2, 10)
    ids = [line[1] for line in journal.read("plain")]
    assert len(ids) == len(set(ids))


# the store


def lines(beat: Beat, text: str) -> int:
    return sum(text in line for line in beat.log().splitlines())


@pytest.fixture
def store(make_server: MakeServer) -> RedisServer:
    server: RedisServer = make_server(RedisServer, "--appendonly", "yes", "--appendfsync", "always")
    return server


def on_store(store: RedisServer) -> dict[str, Any]:
    return {"env": {"TEST_REDIS_URL": store.url, "TEST_SOCKET_TIMEOUT": "1"}}


def test_beat_outlives_an_outage_of_the_store_longer_than_a_lease(
    make_beat: MakeBeat, shared_worker: Worker, store: RedisServer
) -> None:
    beats = [make_beat(**on_store(store)) for _ in range(2)]
    ready(beats)
    wait_for_slots(2)
    store.kill()
    time.sleep(2 * LEASE)
    before = len(fired())
    said = [len(beat.log()) for beat in beats]
    time.sleep(1)
    assert len(fired()) == before
    store.restart()
    wait_for_slots(before + 8)
    assert all(beat.alive for beat in beats)
    for beat in beats:
        assert lines(beat, "waits for the store") == 1, beat.log()
    assert any(" leads: " in beat.log()[start:] for beat, start in zip(beats, said, strict=True))
    assert_none_lost_or_repeated("one", "two")


def test_store_that_stands_still(make_beat: MakeBeat, shared_worker: Worker, store: RedisServer) -> None:
    beats = [make_beat(**on_store(store)) for _ in range(2)]
    ready(beats)
    wait_for_slots(2)
    with store.frozen():
        time.sleep(1.5 * LEASE)
    wait_for_slots(len(fired()) + 8)
    assert all(beat.alive for beat in beats)
    assert_none_lost_or_repeated("one", "two")


def test_store_that_comes_back_empty(
    make_beat: MakeBeat, shared_worker: Worker, make_server: MakeServer
) -> None:
    store = make_server(RedisServer)
    beats = [make_beat(**on_store(store)) for _ in range(2)]
    ready(beats)
    wait_for_slots(2)
    store.restart()
    wait_for_slots(len(fired()) + 8)
    assert all(beat.alive for beat in beats)
    slots = fired()
    assert len(slots) == len(set(slots))


# files, names, and the embedded beat


@pytest.mark.parametrize("kind", ["corrupt", "directory", "unreadable place"])
def test_schedule_file_does_not_matter(
    make_beat: MakeBeat, shared_worker: Worker, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "schedule"
    if kind == "corrupt":
        path.write_bytes(b"garbage" * 100)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/proc/nonexistent/schedule")
    make_beat(file=str(path))
    wait_for_slots(2)
    if kind == "corrupt":
        assert path.read_bytes() == b"garbage" * 100
        assert [each.name for each in tmp_path.iterdir()] == ["schedule"]


@pytest.mark.parametrize("how", ["short name", "configuration"])
def test_scheduler_is_found_by_name(make_beat: MakeBeat, shared_worker: Worker, how: str) -> None:
    if how == "short name":
        make_beat(scheduler="LockedPersistentScheduler")
    else:
        make_beat(
            scheduler=None,
            env={"TEST_BEAT_SCHEDULER": "django_celery_extensions.beat.LockedPersistentScheduler"},
        )
    wait_for_slots(2)
    assert leader_pid() is not None


def test_embedded_beats_take_turns(make_worker: MakeWorker, live_app: Live) -> None:
    env = {
        "TEST_LOCK_TIMEOUT": "30",
        "TEST_LOCK_SLEEP": str(SLEEP),
        "TEST_BEAT_SCHEDULE": json.dumps(EVERY_SECOND),
        "TEST_BEAT_SCHEDULER": "django_celery_extensions.beat.LockedPersistentScheduler",
    }
    workers = [make_worker(arguments=["-B"], env=env) for _ in range(2)]
    wait_for_slots(3)
    leader = wait_until(leader_pid, 10)
    (first,) = [worker for worker in workers if os.getpgid(leader) == worker.pid]
    # A warm shutdown: its beat gives the lease back, which would last for 30 seconds.
    os.kill(first.pid, signal.SIGTERM)
    wait_until(lambda: leader_pid() not in (None, leader), 20, what="the other one leads")
    wait_for_slots(len(fired()) + 3)
    assert_none_lost_or_repeated("one", "two")


# what was missed


def test_catch_up_after_everybody_was_gone(make_beat: MakeBeat, shared_worker: Worker) -> None:
    schedule = {
        "all": {"task": FIRED, "schedule": 1.0, "catch_up": ["all", 60]},
        "few": {"task": FIRED, "schedule": 1.0, "catch_up": ["all", 2]},
        "latest": {"task": FIRED, "schedule": 1.0},
        "none": {"task": FIRED, "schedule": 1.0, "catch_up": "none"},
    }
    first = make_beat(schedule)
    wait_for_slots(2, "none")
    first.stop()
    last = {name: max(fired(name)) for name in schedule}
    time.sleep(6)
    make_beat(schedule)
    for name in schedule:
        wait_until(lambda name=name: max(fired(name)) > last[name] + 8 * SECOND, 30, interval=0.05)
    gaps = {
        name: [(later - earlier) // SECOND for earlier, later in pairwise(sorted(fired(name)))]
        for name in schedule
    }
    assert set(gaps["all"]) == {1}
    biggest = {name: max(gaps[name]) for name in ("few", "latest", "none")}
    assert 1 < biggest["few"] < biggest["latest"] <= biggest["none"]
    for name in schedule:
        assert sum(gap > 1 for gap in gaps[name]) <= 1
        assert len(fired(name)) == len(set(fired(name)))


def test_unique_task_joins_and_that_counts_as_fired(
    make_beat: MakeBeat, shared_worker: Worker, live_app: Live
) -> None:
    schedule = {"unique": {"task": "tests.project.tasks.gated", "schedule": 1.0, "args": ["gate"]}}
    make_beat(schedule)
    wait_until(lambda: journal.read("start"), 30)
    name = beat_name()
    wait_until(lambda: slot_store().look(name, ["unique"]).records["unique"].count >= 3, 20)
    assert len(journal.read("start")) == 1
    record = slot_store().look(name, ["unique"]).records["unique"]
    wait_until(lambda: slot_store().look(name, ["unique"]).records["unique"].sent, 5)
    assert record.count >= 3
    journal.open_gate("gate", times=20)
    wait_until(lambda: len(journal.read("start")) >= 2, 20)


# bad input


@pytest.mark.parametrize(
    ("schedule", "env", "said"),
    [
        ({"x": {"task": "", "schedule": 1.0}}, {}, "give the name of a task"),
        ({"x": {"task": FIRED, "schedule": 1.0, "catch_up": "all"}}, {}, "catch_up is 'all'"),
        ({"x": {"task": FIRED, "schedule": 1.0}}, {"TEST_LOCK_SLEEP": "3"}, "must look more often"),
        ({"x": {"task": FIRED, "schedule": 1.0}}, {"TEST_REDIS_URL": ""}, "LocMemCache"),
    ],
)
def test_bad_input_is_told_and_beat_does_not_run(
    make_beat: MakeBeat, schedule: Any, env: dict[str, str], said: str
) -> None:
    beat = make_beat(schedule, env=env)
    wait_until(lambda: not beat.alive, 30, what=beat.log)
    assert beat.returncode != 0
    assert said in beat.log(), beat.log()
    assert journal.read("fired") == []


def test_task_that_nobody_knows_is_sent_by_name(make_beat: MakeBeat, live_app: Live) -> None:
    beat = make_beat({"x": {"task": "some.where.else", "schedule": 1.0}})
    wait_until(lambda: live_app.queued() >= 1, 30, what=beat.log)
    assert lines(beat, "some.where.else by name") == 1
