"""The rules of slots: when entries are due, by every kind of schedule, and what becomes of missed slots."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.slots import (
    DAY,
    HOUR,
    NEVER,
    SECOND,
    Asked,
    CatchUp,
    Crontab,
    Estimate,
    Interval,
    Rule,
    catch_up_of,
    moment_of,
    rule_of,
    when,
)
from tests.project.celery import app

UTC = timezone.utc
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # moves its clocks by half an hour

moments = st.integers(min_value=moment_of(datetime(2020, 1, 1, tzinfo=UTC)), max_value=2**51)
LATEST, NONE = CatchUp(), CatchUp(kind="none")


def at(*parts: int, tz: Any = UTC) -> int:
    return moment_of(datetime(*parts, tzinfo=tz))  # type: ignore[arg-type, misc]


def cron(tz: Any = UTC, **fields: Any) -> Rule:
    return rule_of(crontab(app=app, **fields), tz, "test")


def local(rule: Rule, start: int, count: int, tz: Any) -> list[str]:
    """Return the wall clock times of the next slots."""
    found = []
    for _ in range(count):
        start = rule.after(start, start)
        found.append(when(start, tz).strftime("%d %H:%M %Z"))
    return found


def due(rule: Rule, **given_: Any) -> int:
    return rule.due(**{"catch_up": LATEST, "since": 0, **given_})


# every kind of schedule


@given(last=moments, step=st.integers(1, 10 * DAY), later=st.integers(0, 400 * DAY))
def test_interval_stays_on_its_grid(last: int, step: int, later: int) -> None:
    rule = Interval(timedelta(microseconds=step))
    slot = rule.after(last + later, last)
    assert 0 < slot - (last + later) <= step
    assert (slot - last) % step == 0
    latest = rule.latest(last, last + later, last)
    assert latest == (slot - step if slot - step > last else None)


def test_late_firing_moves_no_later_slot() -> None:
    rule = Interval(timedelta(seconds=10))
    first = due(rule, done=0, last=0, now=13 * SECOND)
    assert first == 10 * SECOND
    assert due(rule, done=first, last=first, now=13 * SECOND) == 20 * SECOND


@pytest.mark.parametrize(
    ("fields", "start", "expected"),
    [
        ({"minute": "*/15"}, (2026, 1, 1, 0, 15), (2026, 1, 1, 0, 30)),
        ({"minute": 0, "hour": 4}, (2026, 1, 1, 4, 0), (2026, 1, 2, 4, 0)),
        ({"minute": 0, "hour": 4}, (2026, 1, 1, 3, 59, 59), (2026, 1, 1, 4, 0)),
        ({"minute": 30, "hour": 7, "day_of_week": "mon"}, (2026, 1, 1), (2026, 1, 5, 7, 30)),
        ({"minute": 0, "hour": 0, "day_of_month": 1}, (2026, 1, 1), (2026, 2, 1)),
        ({"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2}, (2026, 1, 1), (2028, 2, 29)),
        ({"minute": 0, "hour": 0, "day_of_month": 13, "day_of_week": "fri"}, (2026, 1, 1), (2026, 2, 13)),
        ({"minute": "5,10", "hour": "8-9"}, (2026, 1, 1, 9, 10), (2026, 1, 2, 8, 5)),
    ],
)
def test_crontab_finds_the_next_minute_that_matches(fields: Any, start: Any, expected: Any) -> None:
    assert cron(**fields).after(at(*start), 0) == at(*expected)


@settings(deadline=None)
@given(
    moment=moments,
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    zone=st.sampled_from(["UTC", "Europe/Prague"]),
)
def test_daily_crontab_skips_no_day(moment: int, minute: int, hour: int, zone: str) -> None:
    tz = ZoneInfo(zone)
    rule = cron(tz, minute=minute, hour=hour)
    first = rule.after(moment, 0)
    second = rule.after(first, 0)
    assert moment < first < second
    assert (when(second, tz).date() - when(first, tz).date()).days == 1
    assert rule.latest(moment, second, 0) == second
    assert rule.latest(moment, second - 1, 0) == first


def test_crontab_that_never_comes() -> None:
    rule = Crontab(crontab(minute=0, hour=0, app=app), UTC)
    rule._days = ({2}, {30}, set(range(7)))
    assert rule.after(at(2026, 1, 1), 0) == NEVER


def test_clocks_go_forward() -> None:
    # 8 March 2026: 01:59 EST is followed by 03:00 EDT.
    start = at(2026, 3, 7, 3, 0, tz=NEW_YORK)
    daily = cron(NEW_YORK, minute=30, hour=2)
    assert local(daily, start, 2, NEW_YORK) == ["08 03:30 EDT", "09 02:30 EDT"]
    hourly = cron(NEW_YORK, minute=15)
    around = local(hourly, at(2026, 3, 8, 0, 30, tz=NEW_YORK), 3, NEW_YORK)
    assert around == ["08 01:15 EST", "08 03:15 EDT", "08 04:15 EDT"]


def test_clocks_go_back() -> None:
    # 1 November 2026: 01:59 EDT is followed by 01:00 EST.
    start = at(2026, 11, 1, 0, 30, tz=NEW_YORK)
    daily = cron(NEW_YORK, minute=30, hour=1)
    assert local(daily, start, 2, NEW_YORK) == ["01 01:30 EDT", "02 01:30 EST"]
    hourly = cron(NEW_YORK, minute=15)
    assert local(hourly, start, 3, NEW_YORK) == ["01 01:15 EDT", "01 01:15 EST", "01 02:15 EST"]


@settings(deadline=None)
@given(
    zone=st.sampled_from([NEW_YORK, LORD_HOWE]), days=st.integers(0, 365), step=st.sampled_from(["*/20", "*"])
)
def test_every_so_many_minutes_knows_no_change_of_clocks(zone: ZoneInfo, days: int, step: str) -> None:
    rule = cron(zone, minute=step)
    every = 60 * SECOND if step == "*" else 20 * 60 * SECOND
    slot = rule.after(at(2026, 1, 1) + days * DAY, 0)
    for _ in range(80):
        following = rule.after(slot, 0)
        # Lord Howe's half hour is no multiple of 20 minutes.
        assert following - slot == every or (zone is LORD_HOWE and 0 < following - slot <= 2 * every)
        slot = following


def test_interval_knows_no_change_of_clocks() -> None:
    rule = rule_of(schedule(3600, app=app), NEW_YORK, "test")
    slot = at(2026, 3, 8, 0, 0, tz=NEW_YORK)
    for _ in range(5):
        following = rule.after(slot, slot)
        assert following - slot == HOUR
        slot = following


def test_relative_interval_keeps_round_times() -> None:
    rule = rule_of(schedule(timedelta(minutes=5), relative=True, app=app), UTC, "test")
    assert isinstance(rule, Estimate)
    first = rule.after(at(2026, 1, 1, 0, 3, 20), at(2026, 1, 1, 0, 3, 20))
    assert when(first).second == 0
    late = rule.after(first + 3 * DAY + 7 * SECOND, first)
    assert when(late).second == 0
    assert 0 < late - (first + 3 * DAY + 7 * SECOND) <= 5 * 60 * SECOND


def test_solar_event_is_one_slot_however_it_is_calculated() -> None:
    pytest.importorskip("ephem")
    from celery.schedules import solar

    rule = rule_of(solar("sunset", 50.08, 14.42, app=app), UTC, "test")
    start = at(2026, 6, 1)
    first = rule.after(start, start)
    assert when(first).hour in (18, 19)
    assert rule.after(first - 3600 * SECOND, start) == first
    second = rule.after(first, first)
    assert 23 * HOUR < second - first < 25 * HOUR
    # What is calculated a second too early is still the same event.
    assert rule.after(first - SECOND, first) == second
    assert rule.latest(start, second + 5, start) == second


class Odd:
    """A schedule of somebody's own, with nothing but Celery's protocol."""

    app: Any = None

    def __init__(self) -> None:
        self.nowfun: Any = None

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        passed = (self.nowfun() - last_run_at).total_seconds()
        return passed >= 7, max(7 - passed, 0.5)


class Workdays(schedule):
    """A schedule of Celery's that is asked more than it tells."""

    def is_due(self, last_run_at: datetime) -> Any:
        due_, again_in = super().is_due(last_run_at)
        return due_ and self.now().weekday() < 5, again_in


def test_custom_schedule_is_asked() -> None:
    rule = rule_of(Odd(), UTC, "test")
    assert isinstance(rule, Asked)
    start = at(2026, 1, 1)
    assert due(rule, done=start, last=start, now=start + 3 * SECOND) == start + 7 * SECOND
    assert due(rule, done=start, last=start, now=start + 9 * SECOND) == start + 9 * SECOND
    assert isinstance(rule_of(Workdays(60, app=app), UTC, "test"), Asked)
    saturday = at(2026, 1, 3)
    workdays = rule_of(Workdays(60, app=app), UTC, "test")
    assert due(workdays, done=saturday - HOUR, last=saturday - HOUR, now=saturday) > saturday
    monday = at(2026, 1, 5)
    assert due(workdays, done=saturday, last=saturday, now=monday) == monday


def test_subclass_that_estimates_is_estimated() -> None:
    class Halved(schedule):
        def remaining_estimate(self, last_run_at: datetime) -> timedelta:
            return super().remaining_estimate(last_run_at) / 2

    rule = rule_of(Halved(60, app=app), UTC, "test")
    assert isinstance(rule, Estimate)
    assert rule.after(at(2026, 1, 1), at(2026, 1, 1)) == at(2026, 1, 1, 0, 0, 30)


# changes of a schedule are seen


def test_digest_tells_schedules_apart_and_not_objects() -> None:
    same = [rule_of(schedule(60, app=app), UTC, "t").digest for _ in range(2)]
    assert same[0] == same[1]
    assert rule_of(Odd(), UTC, "t").digest == rule_of(Odd(), UTC, "t").digest
    different = [
        rule_of(schedule(60, app=app), UTC, "t"),
        rule_of(schedule(61, app=app), UTC, "t"),
        cron(minute=1),
        cron(minute=2),
        cron(NEW_YORK, minute=1),
        rule_of(Odd(), UTC, "t"),
    ]
    assert len({rule.digest for rule in different}) == len(different)


# missed slots


MINUTELY = Interval(timedelta(minutes=1))
MINUTE = 60 * SECOND


def test_latest_fires_the_last_of_the_missed() -> None:
    assert due(MINUTELY, done=0, last=0, now=10 * MINUTE + 5) == 10 * MINUTE
    assert due(MINUTELY, done=10 * MINUTE, last=10 * MINUTE, now=10 * MINUTE + 5) == 11 * MINUTE
    assert due(cron(minute=0, hour=4), done=at(2020, 1, 1), last=0, now=at(2026, 1, 1)) == at(2025, 12, 31, 4)


def test_none_fires_only_what_is_due_from_the_takeover_on() -> None:
    since = 10 * MINUTE + 30 * SECOND
    assert due(MINUTELY, done=0, last=0, now=since, since=since, catch_up=NONE) == 11 * MINUTE
    assert due(MINUTELY, done=0, last=0, now=12 * MINUTE + 5, since=since, catch_up=NONE) == 12 * MINUTE


def test_all_fires_each_that_is_not_too_old() -> None:
    catch_up = catch_up_of(("all", timedelta(minutes=3)), "test")
    now, done, fired = 10 * MINUTE + 5, 0, []
    while (slot := due(MINUTELY, done=done, last=done, now=now, catch_up=catch_up)) <= now:
        fired.append(slot // MINUTE)
        done = slot
    assert fired == [8, 9, 10]


def test_slot_exactly_as_old_as_allowed_is_fired() -> None:
    catch_up = CatchUp(kind="all", max_age=3 * MINUTE)
    assert due(MINUTELY, done=0, last=0, now=10 * MINUTE, catch_up=catch_up) == 7 * MINUTE


def test_starting_deadline_of_celery_holds() -> None:
    rule = cron(minute=0, hour=4)
    now = at(2026, 1, 2, 4, 10)
    given_ = {"done": at(2026, 1, 1, 4), "last": 0, "now": now}
    assert due(rule, **given_, max_age=15 * MINUTE) == at(2026, 1, 2, 4)
    assert due(rule, **given_, max_age=5 * MINUTE) == at(2026, 1, 3, 4)


def test_clock_that_went_back_fires_nothing_twice() -> None:
    done = 100 * MINUTE
    for catch_up in (LATEST, NONE, CatchUp(kind="all", max_age=DAY)):
        assert due(MINUTELY, done=done, last=done, now=40 * MINUTE, catch_up=catch_up) == 101 * MINUTE


@settings(deadline=None)
@given(done=moments, behind=st.integers(0, 500 * DAY), kind=st.sampled_from(["latest", "none", "all"]))
def test_what_is_due_is_later_than_what_is_done(done: int, behind: int, kind: str) -> None:
    now = done + behind
    catch_up = CatchUp(kind=kind, max_age=HOUR if kind == "all" else None)
    for rule in (MINUTELY, cron(NEW_YORK, minute=30, hour="1,2")):
        slot = due(rule, done=done, last=done, now=now, since=now - HOUR, catch_up=catch_up)
        assert slot > done
        if kind == "latest" and slot <= now:
            assert rule.after(slot, slot) > now


# bad input


@pytest.mark.parametrize(
    "value", ["all", "newest", 5, ("all",), ("all", 0), ("all", "1h"), ("none", 5), ["all", None], True]
)
def test_catch_up_that_can_not_be(value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="catch_up|age"):
        catch_up_of(value, "beat_schedule['x']")


def test_catch_up_that_can_be() -> None:
    assert catch_up_of(None, "x") == catch_up_of("latest", "x") == LATEST
    assert catch_up_of("none", "x") == NONE
    assert catch_up_of(["all", 90], "x") == CatchUp(kind="all", max_age=90 * SECOND)


@pytest.mark.parametrize("value", [None, "5", object()])
def test_what_is_no_schedule(value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match=r"^entry: schedule is"):
        rule_of(value, UTC, "entry")


def test_interval_of_nothing_is_refused() -> None:
    with pytest.raises(TaskConfigurationError, match="more than 0 seconds"):
        rule_of(schedule(0, app=app), UTC, "entry")
