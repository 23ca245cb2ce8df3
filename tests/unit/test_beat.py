"""The scheduler in this process, by a clock that the test moves: on real stores, with a broker and no worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from celery import VERSION
from celery.beat import BeatLazyFunc
from celery.schedules import crontab, schedule
from kombu.exceptions import OperationalError

from django_celery_extensions import agenda as agenda_module
from django_celery_extensions.acquisition import heartbeat
from django_celery_extensions.agenda import GRACE, Clock
from django_celery_extensions.beat import LockedPersistentScheduler
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.leadership import Leadership, beat_name
from django_celery_extensions.once import SLOT, slot_id
from django_celery_extensions.slots import HOUR, SECOND, moment_of
from django_celery_extensions.stores import lease_store, slot_store
from django_celery_extensions.stores.slots import Leader
from tests.project import tasks
from tests.project.celery import app
from tests.unit.stores import opened, redis_options, use_cache

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore
    from tests.servers import RedisServer
    from tests.unit.conftest import Queue

TASK = "tests.project.tasks.note"
START = moment_of(datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc))


class TestClock(Clock):
    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.moment = START

    def now(self) -> int:
        return self.moment

    def follow(self, moment: int | None, asked_at: int) -> None: ...


class Beat:
    """A scheduler that is driven by hand."""

    def __init__(self, **options: Any) -> None:
        self.scheduler = LockedPersistentScheduler(app=app, **options)
        self.clock = self.scheduler.clock = TestClock()

    def run(self, seconds: float = 0) -> None:
        """Let time pass, and tick until there is nothing to do."""
        self.clock.moment += round(seconds * SECOND)
        self.scheduler._look_at = 0
        for _ in range(1000):
            if self.scheduler.tick() > 0:
                return
        pytest.fail("it never rests")

    @property
    def leads(self) -> bool:
        return self.scheduler._agenda is not None


MakeBeat = Callable[..., Beat]


@pytest.fixture(autouse=True)
def caplog_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def make_beat(queue: Queue) -> Iterator[MakeBeat]:
    """A maker of schedulers on the servers of `live_app`: `make_beat({"name": {"task": …}})`."""
    beats: list[Beat] = []

    def make(entries: dict[str, Any] | None = None, **options: Any) -> Beat:
        if entries is not None:
            app.conf.beat_schedule = entries
        beat = Beat(**options)
        beats.append(beat)
        return beat

    yield make
    for beat in beats:
        beat.scheduler._ticking = False
        beat.scheduler.close()
    app.conf.beat_schedule = {}


def every(seconds: float = 10, **more: Any) -> dict[str, Any]:
    return {"task": TASK, "schedule": seconds, **more}


def sent(queue: Queue) -> list[tuple[str, float]]:
    """Return the entries that were sent, and their slots in seconds from the start."""
    found = [message.headers[SLOT] for message in queue.messages()]
    return [(slot["entry"], (slot["slot"] - START) / SECOND) for slot in found]


def record(name: str = "a") -> Any:
    return slot_store().look(beat_name(), [name]).records.get(name)


# the constructor


@pytest.mark.parametrize("lazy", [True, False])
def test_constructor_touches_nothing(
    make_beat: MakeBeat, store_server: RedisServer, tmp_path: Path, lazy: bool
) -> None:
    path = tmp_path / "schedule"
    with store_server.recording() as commands:
        beat = make_beat({"a": every()}, lazy=lazy, schedule_filename=str(path))
        assert "the cache 'default'" in beat.scheduler.info
    assert commands == []
    assert not path.exists()


# what is fired


def test_interval_fires_one_interval_after_it_was_first_seen(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    assert sent(queue) == []
    for _ in range(4):
        beat.run(7)
    assert sent(queue) == [("a", 10), ("a", 20)]


def test_crontab_fires_at_its_next_match(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(crontab(minute=5))})
    beat.run()
    beat.run(299)
    assert sent(queue) == []
    beat.run(3)
    assert sent(queue) == [("a", 300)]


def test_changed_time_zone_counts_from_now_on(
    make_beat: MakeBeat, queue: Queue, settings: SettingsWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = every(crontab(minute=30, hour=14), catch_up=("all", 24 * 3600))
    first = make_beat({"a": entry})
    first.run()
    first.scheduler.close()
    # The next beat is told another zone: 14:30 in Prague was 13:30, before anybody knew of it.
    monkeypatch.setitem(vars(app), "timezone", ZoneInfo("Europe/Prague"))
    second = make_beat()
    second.clock.moment = START + 2 * HOUR
    second.run()
    assert sent(queue) == []
    second.run(24 * 3600)
    assert sent(queue) == [("a", 25.5 * 3600)]


def test_long_due_entry_is_fired_first(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(10), "b": every(7), "c": every(9)})
    beat.run()
    beat.run(12)
    assert sent(queue) == [("b", 7), ("c", 9), ("a", 10)]


def test_message_says_what_it_is(make_beat: MakeBeat, queue: Queue) -> None:
    options = {"queue": "other", "priority": 3, "headers": {"mine": 1}, "expires": 60}
    entry = every(10, args=(BeatLazyFunc(lambda: 5),), kwargs={}, options=options, catch_up="none")
    beat = make_beat({"a": entry})
    beat.run()
    beat.run(10)
    beat.run(10)
    first, second = queue.messages("other\x06\x163")  # kombu's name of its list for this priority
    assert first.task_id == slot_id(beat_name(), "a", START + 10 * SECOND) != second.task_id
    assert first.args == [5]
    assert first.headers["mine"] == 1
    assert first.headers.get("celery_beat_task", VERSION < (5, 7)) is True
    assert first.headers["expires"] is not None
    assert first.properties["priority"] == 3
    assert "catch_up" not in first.headers
    assert first.headers[SLOT]["sending"] != second.headers[SLOT]["sending"]
    assert options == {"queue": "other", "priority": 3, "headers": {"mine": 1}, "expires": 60}


def test_entry_says_what_the_store_says(make_beat: MakeBeat, queue: Queue) -> None:
    first = make_beat({"a": every(10)})
    first.run()
    first.run(10)
    first.run(10)
    first.scheduler.close()
    second = make_beat()
    second.clock.moment = first.clock.moment + 5 * SECOND
    second.run()
    entry = second.scheduler.schedule["a"]
    assert entry.last_run_at == datetime(2026, 3, 2, 12, 0, 20, tzinfo=timezone.utc)
    assert entry.total_run_count == 2


# takeover


def test_next_leader_goes_on_where_the_last_one_ended(make_beat: MakeBeat, queue: Queue) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    first.run(10)
    second.run()
    assert (first.leads, second.leads) == (True, False)
    first.scheduler.close()
    second.clock.moment = first.clock.moment
    second.run(1)
    assert second.leads
    second.run(9)
    assert sent(queue) == [("a", 10), ("a", 20)]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("latest", [10, 60, 70]),
        ("none", [10, 70]),
        (("all", timedelta(seconds=25)), [10, 40, 50, 60, 70]),
        (("all", 600), [10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_what_was_missed_is_caught_up(
    make_beat: MakeBeat, queue: Queue, catch_up: Any, expected: list[int]
) -> None:
    first = make_beat({"a": every(10, catch_up=catch_up)})
    first.run()
    first.run(10)
    first.scheduler.close()
    second = make_beat()
    second.clock.moment = first.clock.moment
    second.run(52)
    second.run(8)
    assert [slot for _, slot in sent(queue)] == expected


def die_in(beat: Beat, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten seconds pass for a beat, and end it in the step of its scheduler that comes with the next slot."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(beat.scheduler, step, die)
    with pytest.raises(KeyboardInterrupt):
        beat.run(10)


def test_slot_that_may_not_have_been_sent_is_sent_again(
    make_beat: MakeBeat, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    die_in(first, "_send", monkeypatch)
    assert not record().sent
    first.scheduler.close()
    second.clock.moment = first.clock.moment
    second.run(1)
    assert sent(queue) == [("a", 10)]
    assert queue.ids() == [slot_id(beat_name(), "a", START + 10 * SECOND)]
    assert record().sent
    assert record().count == 1


def test_slot_that_a_worker_has_started_is_not_sent_again(
    make_beat: MakeBeat, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    die_in(first, "_went_out", monkeypatch)
    header = queue.messages()[0].headers[SLOT]
    slot_store().start(beat_name(), "a", header["slot"], header["id"], header["sending"])
    first.scheduler.close()
    second.clock.moment = first.clock.moment
    second.run(1)
    assert len(queue.messages()) == 1
    assert record().sent


# what is changed at run time


def test_entries_come_and_go(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    beat.scheduler.add(name="added", task=TASK, schedule=schedule(5, app=app))
    app.conf.beat_schedule = {"b": every(4)}
    app.add_periodic_task(3, tasks.note.s(), name="periodic", catch_up="none", queue="celery")
    beat.run()
    assert set(beat.scheduler.schedule) - {"celery.backend_cleanup"} == {"added", "b", "periodic"}
    beat.run(5.5)
    assert sorted(sent(queue)) == [("added", 5), ("b", 4), ("periodic", 3)]
    assert beat.scheduler.schedule["periodic"].catch_up == "none"
    assert "catch_up" not in beat.scheduler.schedule["periodic"].options
    del beat.scheduler.schedule["added"]
    beat.run(5)
    assert ("added", 10) not in sent(queue)


def test_changed_schedule_counts_from_now_on(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(3600)})
    beat.run()
    beat.run(3600)
    app.conf.beat_schedule = {"a": every(600, catch_up=("all", 7200))}
    beat.run(1800)
    assert sent(queue) == [("a", 3600)]
    beat.run(600)
    assert sent(queue) == [("a", 3600), ("a", 6000)]
    assert beat.scheduler.schedule["a"].total_run_count == 2


def test_schedule_that_was_changed_while_nobody_led_is_not_caught_up(
    make_beat: MakeBeat, queue: Queue
) -> None:
    first = make_beat({"a": every(crontab(minute=0, hour=13))})
    first.run()
    first.scheduler.close()
    second = make_beat({"a": every(crontab(minute=30, hour=12))})
    second.clock.moment = START + HOUR
    second.run()
    assert sent(queue) == []
    second.run(23.5 * 3600)
    assert sent(queue) == [("a", 24.5 * 3600)]


def test_entry_that_is_gone_for_the_time_of_a_rollout_was_never_gone(
    make_beat: MakeBeat, queue: Queue
) -> None:
    old, new = {"b": every(10)}, {"a": every(10), "b": every(10)}
    beat = make_beat(new)
    beat.run()
    app.conf.beat_schedule = old
    beat.run(15)
    app.conf.beat_schedule = new
    beat.run(10)
    assert ("a", 20) in sent(queue)
    app.conf.beat_schedule = old
    beat.run(1)
    beat.run(GRACE / SECOND + 1)
    app.conf.beat_schedule = new
    before = len([each for each in sent(queue) if each[0] == "a"])
    beat.run(5)
    assert len([each for each in sent(queue) if each[0] == "a"]) == before
    beat.run(10)
    assert len([each for each in sent(queue) if each[0] == "a"]) == before + 1


def test_entry_that_is_gone_for_long_is_forgotten(make_beat: MakeBeat, queue: Queue) -> None:
    beat = make_beat({"a": every(10), "b": every(10)})
    beat.run()
    app.conf.beat_schedule = {"b": every(10)}
    beat.run(1)
    assert record().gone
    beat.scheduler.close()
    second = make_beat()
    second.clock.moment = beat.clock.moment + GRACE + SECOND
    second.run()
    assert record() is None


def test_pending_slot_of_an_entry_that_comes_back_is_sent(
    make_beat: MakeBeat, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make_beat({"a": every(10), "b": every(100)})
    beat.run()
    with monkeypatch.context() as patch:
        patch.setattr(beat.scheduler, "_send", lambda *_: None)
        beat.clock.moment += 10 * SECOND
        beat.scheduler.tick()
    assert not record().sent
    app.conf.beat_schedule = {"b": every(100)}
    beat.run(1)
    assert sent(queue) == []
    app.conf.beat_schedule = {"a": every(10), "b": every(100)}
    beat.run(1)
    assert sent(queue) == [("a", 10)]


def test_bad_entry_that_is_added_later_stops_nobody(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    app.conf.beat_schedule = {
        "a": every(10),
        "bad": every(0),
        "odd": {"shedule": 5},
        "older": every(object()),
    }
    beat.run(1)
    beat.run(9)
    assert sent(queue) == [("a", 10)]
    assert "more than 0 seconds" in caplog.text
    assert "beat_schedule['odd']" in caplog.text
    with pytest.raises(TaskConfigurationError):
        beat.scheduler.add(name="bad", task="", schedule=5)


def test_schedule_that_fails_stops_nobody(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(schedule):
        def is_due(self, _: datetime) -> Any:
            raise ValueError

    beat = make_beat({"a": every(10), "bad": every(Broken(5))})
    beat.run()
    beat.run(10)
    beat.run(100)
    assert sent(queue) == [("a", 10), ("a", 110)]
    assert caplog.text.count("can't be calculated") == 1


# the broker


def test_slot_waits_for_the_broker(
    make_beat: MakeBeat, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    apply_async = beat.scheduler.apply_async
    down = [True]

    def send(*args: Any, **kwargs: Any) -> Any:
        if down:
            raise OperationalError
        return apply_async(*args, **kwargs)

    monkeypatch.setattr(beat.scheduler, "apply_async", send)
    for seconds in (10, 1, 3, 5):
        beat.run(seconds)
        beat.scheduler._quiet_until = 0
    assert not record().sent
    down.clear()
    beat.run(8)
    assert sent(queue) == [("a", 10), ("a", 20)]
    assert caplog.text.count("beat can't send") == 1
    assert caplog.text.count("beat can send again") == 1


def test_error_of_a_hook_is_not_taken_for_a_broker_that_is_away(
    make_beat: MakeBeat, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Naive: each OSError is the broker's, so that an entry whose hook can't open its file stays at its first slot."""

    def open_file(*_: Any, **__: Any) -> None:
        msg = "audit.log"
        raise FileNotFoundError(msg)

    beat = make_beat({"a": every(10)})
    beat.run()
    monkeypatch.setattr(tasks.note.__class__, "on_invocation_trigger", open_file)
    beat.run(10)
    assert "audit.log" in caplog.text
    assert "beat can't send" not in caplog.text
    monkeypatch.undo()
    beat.run(10)
    assert sent(queue) == [("a", 20)]


def test_message_that_can_never_be_sent_stops_nobody(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    beat = make_beat({"a": every(10, args=(object(),)), "b": every(10)})
    beat.run()
    beat.run(10)
    beat.run(10)
    assert sent(queue) == [("b", 10), ("b", 20)]
    assert caplog.text.count("of 'a' can't be sent") == 2
    assert record().sent


@pytest.mark.parametrize(
    "entry",
    [
        {"schedule": 5},
        {"task": "", "schedule": 5},
        {"task": TASK},
        {"task": TASK, "schedule": 0},
        {"task": TASK, "schedule": "5"},
        {"task": TASK, "schedule": 5, "catch_up": "all"},
        {"task": TASK, "schedule": 5, "options": {"catch_up": "sometimes"}},
        {"task": TASK, "shedule": 5},
    ],
)
def test_entry_that_can_not_be_fired_is_an_error_at_the_start(
    make_beat: MakeBeat, entry: dict[str, Any]
) -> None:
    with pytest.raises(TaskConfigurationError, match=r"^beat_schedule\['wrong'\]: "):
        make_beat({"wrong": entry})
    make_beat(lazy=True)


# cost


def test_one_write_for_each_fired_slot(make_beat: MakeBeat, store_server: RedisServer) -> None:
    beat = make_beat({f"entry {number}": every(10) for number in range(20)})
    beat.run()
    beat.run(10)  # the server knows the scripts from now on
    with store_server.recording() as commands:
        beat.run(10)
    # The last one notes that the last message went out.
    assert [command[0].upper() for command in commands] == ["EVALSHA"] * 21
    with store_server.recording() as commands:
        beat.run(1)
    assert commands == []


def test_takeover_is_one_read(make_beat: MakeBeat, store_server: RedisServer) -> None:
    first = make_beat({f"entry {number}": every(10) for number in range(20)})
    first.run()
    first.scheduler.close()
    second = make_beat()
    with store_server.recording() as commands:
        second.run(1)
    assert [command[0].upper() for command in commands] == ["EVALSHA"] * 2  # the lease, the records


def test_standby_asks_for_the_lease_and_nothing_else(make_beat: MakeBeat, store_server: RedisServer) -> None:
    first, second = make_beat({"a": every(1)}), make_beat()
    first.run()
    with store_server.recording() as commands:
        assert second.scheduler.tick() == 2.0
        second.run(100)
    assert [command[0].upper() for command in commands] == ["EVALSHA"] * 2
    assert not second.leads


def test_leader_looks_often_whatever_its_longest_pause_is(make_beat: MakeBeat) -> None:
    beat = make_beat({"a": every(3600)}, max_interval=300)
    beat.run()
    assert beat.scheduler.tick() == 2.0
    assert make_beat({"a": every(3600)}, max_interval=1).scheduler.tick() == 1


# leadership


def lose(beat: Beat) -> None:
    """Let the lease be taken away, without its holder's knowing."""
    (holder,) = lease_store().holders(beat_name())
    lease_store().evict(holder)


def test_leader_that_was_replaced_claims_and_sends_nothing(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    lose(first)
    second.run()
    assert second.leads
    first.clock.moment += 10 * SECOND
    first.scheduler.tick()  # it still trusts its lease: the fence tells
    assert sent(queue) == []
    first.run(1)
    assert not first.leads
    second.run(10)
    assert sent(queue) == [("a", 10)]
    assert caplog.text.count("stands by") == 1


def test_leases_whose_fences_begin_anew_are_refused_and_told_once(
    make_beat: MakeBeat, caplog: pytest.LogCaptureFixture
) -> None:
    beat = make_beat({"a": every(10)})
    slot_store().open(Leader(name=beat_name(), place="cache", fence=2**52), [])
    for _ in range(5):
        assert beat.scheduler.tick() > 0
    assert not beat.leads
    (line,) = [line for line in caplog.records if "is refused" in line.message]
    assert line.levelname == "WARNING"
    assert "BEATER_LOCK_KEY" in line.message


def test_leader_that_lost_its_lease_stops_and_says_so_once(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    lease = first.scheduler._leadership._lease
    heartbeat.drop(lease)
    lease._lost = True
    lose(first)
    second.run()
    caplog.clear()
    for _ in range(5):
        first.run(10)
    assert not first.leads
    assert sent(queue) == []
    assert [line.levelname for line in caplog.records if "stands by" in line.message] == ["WARNING"]


def test_store_that_lost_everything_costs_no_slot(
    make_beat: MakeBeat, queue: Queue, store_server: RedisServer
) -> None:
    beat = make_beat({"a": every(10, catch_up=("all", 600))})
    beat.run()
    beat.run(10)
    store_server.flush()
    beat.run(20)
    beat.run(10)
    assert [slot for _, slot in sent(queue)] == [10, 20, 30, 40]
    assert record().count == 4


def test_store_that_lost_everything_is_not_filled_by_who_saw_another_leader(
    make_beat: MakeBeat, queue: Queue, store_server: RedisServer
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    lose(first)
    second.run()
    first.run(10)  # fenced, and stands by
    second.scheduler.close()
    store_server.flush()
    first.run(25)
    assert sent(queue) == []


def test_outage_is_one_line_each_way(
    make_beat: MakeBeat, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()

    class Gone:
        def __getattr__(self, name: str) -> Any:
            msg = "gone"
            raise StoreUnavailable(msg)

    from django_celery_extensions import beat as beat_module

    with monkeypatch.context() as patch:
        patch.setattr(beat_module, "slot_store", Gone)
        for _ in range(5):
            beat.run(10)
    beat.run(1)
    assert beat.leads
    assert sent(queue) == [("a", 10), ("a", 50)]  # the one that was asked for, and the latest
    told = [line.message for line in caplog.records if line.name.endswith("leadership")]
    assert [line.split(" ")[2] for line in told] == ["leads:", "waits", "leads:"]


def test_signal_in_the_middle_of_a_step_closes_afterwards(make_beat: MakeBeat) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    beat.scheduler._ticking = True
    beat.scheduler.close()
    assert lease_store().holders(beat_name())
    beat.scheduler._ticking = False
    beat.scheduler.close()
    beat.scheduler.close()
    assert not lease_store().holders(beat_name())


def test_lease_that_was_got_without_an_answer_is_given_back(
    make_beat: MakeBeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make_beat({"a": every(10)})
    take = type(lease_store()).take

    def unanswered(self: Any, ask: Any) -> Any:
        take(self, ask)
        msg = "no answer"
        raise StoreUnavailable(msg)

    monkeypatch.setattr(type(lease_store()), "take", unanswered)
    beat.scheduler.tick()
    assert lease_store().holders(beat_name())
    beat.scheduler.close()
    assert not lease_store().holders(beat_name())


def test_lease_may_come_from_zookeeper(
    zookeeper_store: LeaseStore, make_beat: MakeBeat, queue: Queue
) -> None:
    first, second = make_beat({"a": every(10)}), make_beat()
    first.run()
    first.run(10)
    second.run()
    assert (first.leads, second.leads) == (True, False)
    assert record().fence == zookeeper_store.holders(beat_name())[0].fence
    first.scheduler.close()
    second.clock.moment = first.clock.moment
    second.run(1)
    assert second.leads
    second.run(9)
    assert sent(queue) == [("a", 10), ("a", 20)]
    second.scheduler.close()


# clocks


def test_beat_follows_the_clock_of_the_store(
    make_beat: MakeBeat, monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    import time

    real = time.time_ns
    monkeypatch.setattr(agenda_module, "time_ns", lambda: real() + 3600 * 10**9)
    app.conf.beat_schedule = {"a": every(10)}
    scheduler = LockedPersistentScheduler(app=app)
    assert abs(scheduler.clock.now() - real() // 1000 - HOUR) < SECOND
    scheduler.tick()
    assert abs(scheduler.clock.now() - real() // 1000) < SECOND
    assert scheduler._agenda is not None
    scheduler.close()


def test_answer_that_was_read_late_does_not_set_the_clock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(agenda_module, "monotonic", lambda: now[0])
    clock = Clock()
    clock.follow(START, clock.tick())
    assert clock.now() == START
    asked_at = clock.tick()
    now[0] += 10  # the process stood still between the answer and its reading it
    clock.follow(START + SECOND // 10, asked_at)
    assert clock.now() == START + 10 * SECOND
    # The store's clock was set forward, and back.
    clock.follow(START + HOUR, clock.tick())
    assert clock.now() == START + HOUR
    clock.follow(START, clock.tick())
    assert clock.now() == START


@pytest.mark.parametrize("store", ["memcached", "sqlite", "postgresql"])
def test_other_caches_follow_the_clock_of_the_leader_and_repeat_nothing(
    store: str,
    request: pytest.FixtureRequest,
    settings: SettingsWrapper,
    make_beat: MakeBeat,
    queue: Queue,
) -> None:
    with opened(store, request, settings):
        first = make_beat({"a": every(10, catch_up=("all", 600)), "b": every(10)})
        first.run()
        first.run(30)
        first.scheduler.close()
        second = make_beat()
        second.clock.moment = first.clock.moment - 3600 * SECOND  # an hour behind
        second.run()
        second.run(10)
        assert [slot for name, slot in sent(queue) if name == "a"] == [10, 20, 30]
        second.run(3600)
        assert [slot for name, slot in sent(queue) if name == "a"] == [10, 20, 30, 40]
        assert [slot for name, slot in sent(queue) if name == "b"] == [30, 40]
        second.scheduler.close()


@pytest.mark.parametrize("cache", ["locmem", "dummy"])
def test_cache_that_can_not_be_used_is_refused(cache: str, settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = cache
    with pytest.raises(TaskConfigurationError, match="LocMemCache|DummyCache"):
        LockedPersistentScheduler(app=app)
    LockedPersistentScheduler(app=app, lazy=True)


def test_lease_that_ends_between_two_looks_is_refused(settings: SettingsWrapper, make_beat: MakeBeat) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_SLEEP = 15
    with pytest.raises(TaskConfigurationError, match="must look more often"):
        LockedPersistentScheduler(app=app)
    with pytest.raises(TaskConfigurationError, match="must look more often"):
        Leadership()


def test_django_s_own_redis_cache(
    store_server: RedisServer, settings: SettingsWrapper, make_beat: MakeBeat, queue: Queue
) -> None:
    use_cache(settings, redis_options("django's redis", store_server.url))
    beat = make_beat({"a": every(10)})
    beat.run()
    beat.run(10)
    assert sent(queue) == [("a", 10)]
    beat.scheduler.close()
