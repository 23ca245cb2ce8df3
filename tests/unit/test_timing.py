"""Durations, stale limits and expiry: pure rules."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_celery_extensions.config import UNSET
from django_celery_extensions.exceptions import StaleLimitMissing, TaskConfigurationError
from django_celery_extensions.timing import (
    ONE_DAY,
    Limits,
    delay_until,
    limits,
    queued_for,
    retry_eta,
    seconds,
)

NOW = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=1), 0.001), (10**9, 1e9)],
)
def test_durations_are_numbers_or_timedeltas(value: Any, number: float) -> None:
    assert seconds(value, "it") == number


@pytest.mark.parametrize(
    "value", [0, 0.0, -1, timedelta(), timedelta(seconds=-1), float("inf"), float("nan")]
)
def test_duration_must_be_positive(value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="the name is .*must be more than 0 seconds"):
        seconds(value, "the name")


@pytest.mark.parametrize("value", ["5", None, True, False, [1], {}, object(), b"1", 1j])
def test_duration_of_a_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="the name is .*number of seconds or a timedelta"):
        seconds(value, "the name")


def of(**given: Any) -> Limits:
    nothing: dict[str, Any] = {
        "call": None,
        "task": None,
        "default": UNSET,
        "time_limit": None,
        "max_queue_waiting_time": None,
    }
    return limits(**{**nothing, **given})


computable = {"time_limit": 10, "max_queue_waiting_time": 5}


@pytest.mark.parametrize(
    ("given_", "stale"),
    [
        ({"call": 1, "task": 2, "default": 3, **computable}, 1),
        ({"task": 2, "default": 3, **computable}, 2),
        ({"default": 3, **computable}, 3),
        ({**computable}, 15),
        ({"default": None, **computable}, 15),
        ({}, ONE_DAY),
        ({"time_limit": 10}, ONE_DAY),
        ({"max_queue_waiting_time": 5}, ONE_DAY),
        ({"call": timedelta(seconds=7), "task": 2}, 7),
        ({"default": None, "task": 2}, 2),
        ({"default": None, "call": 1}, 1),
        ({"time_limit": 0, "max_queue_waiting_time": 5}, 5),
    ],
)
def test_stale_limit_is_call_task_setting_computed_one_day(given_: dict[str, Any], stale: float) -> None:
    assert of(**given_).stale == stale


def test_one_day() -> None:
    assert timedelta(days=1).total_seconds() == ONE_DAY


@pytest.mark.parametrize("known", [{}, {"time_limit": 10}, {"max_queue_waiting_time": 5}])
def test_setting_of_none_asks_for_a_limit(known: dict[str, float]) -> None:
    with pytest.raises(StaleLimitMissing, match=r"stale_time_limit.*time_limit.*max_queue_waiting_time"):
        of(default=None, **known)


@pytest.mark.parametrize("where", ["call", "task", "default"])
@pytest.mark.parametrize("value", [0, -1, "5", True, float("nan")])
def test_bad_limit_is_refused_wherever_it_stands(where: str, value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match=r"stale_time_limit|STALE_TIME_LIMIT"):
        of(**{where: value})


def test_zero_at_the_call_does_not_fall_through_to_the_task() -> None:
    with pytest.raises(TaskConfigurationError):
        of(call=0, task=60)


@pytest.mark.parametrize(
    ("given_", "expires"),
    [
        ({"task": 60, "time_limit": 10}, 50),  # the last moment at which it ends in time
        ({"task": 60}, None),
        ({**computable}, 5),
        ({"time_limit": 10}, None),  # no stale limit was set: one day is our own guess
        ({"default": 60, "time_limit": 10}, 50),
        ({"call": 20, "task": 60, "time_limit": 10}, 10),
        ({"task": 10, "time_limit": 10}, 10),
        ({"task": 5, "time_limit": 10}, 5),
    ],
)
def test_message_expires_when_its_claim_would_not_outlast_the_body(
    given_: dict[str, Any], expires: float | None
) -> None:
    assert of(**given_).expires == expires


@given(
    stale=st.floats(0.001, 1e6) | st.none(),
    time_limit=st.floats(0, 1e6) | st.none(),
    waiting=st.floats(0.001, 1e6) | st.none(),
)
def test_message_never_expires_at_once(
    stale: float | None, time_limit: float | None, waiting: float | None
) -> None:
    made = of(task=stale, time_limit=time_limit, max_queue_waiting_time=waiting)
    assert made.stale > 0
    assert made.expires is None or 0 < made.expires <= made.stale


east = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("countdown", "eta", "delay"),
    [
        (None, None, 0),
        (0, None, 0),
        (1.5, None, 1.5),
        (-5, None, 0),
        ("3", None, 3),
        (None, NOW + timedelta(minutes=1), 60),
        (None, (NOW + timedelta(minutes=1)).astimezone(east), 60),
        (None, (NOW + timedelta(minutes=1)).replace(tzinfo=None), 60),
        (None, NOW - timedelta(minutes=1), 0),
        (None, (NOW + timedelta(minutes=1)).isoformat(), 60),
        (None, "2024-02-29T12:01:00Z", 60),
        (None, "2024-02-29T12:01:00", 60),
        (None, "2024-02-29T17:31:00+05:30", 60),
        (None, "2023-02-28T12:01:00Z", 0),
    ],
)
def test_delay_is_counted_from_now_and_never_negative(countdown: Any, eta: Any, delay: float) -> None:
    assert delay_until(countdown, eta, NOW) == pytest.approx(delay)


def test_naive_eta_is_a_moment_of_the_apps_time_zone() -> None:
    eta = (NOW + timedelta(minutes=1)).astimezone(east).replace(tzinfo=None)
    assert delay_until(None, eta, NOW.astimezone(east)) == pytest.approx(60)


@pytest.mark.parametrize(
    ("delay", "expires", "lasts"),
    [
        (0, None, 100),
        (20, None, 120),
        (0, 60, 61),
        (20, 60.5, 61.5),
        (0, NOW + timedelta(seconds=60), 61),
        (0, (NOW + timedelta(seconds=60)).replace(tzinfo=None), 61),
        (0, (NOW + timedelta(seconds=60)).isoformat(), 61),
        (0, 1000, 100),
        (20, NOW + timedelta(days=1), 120),
        (0, -5, 1),
        (0, NOW - timedelta(days=1), 1),
    ],
)
def test_claim_lasts_no_longer_than_its_message(delay: float, expires: Any, lasts: float) -> None:
    assert queued_for(100, delay, expires, NOW) == pytest.approx(lasts)


def test_retry_says_a_moment() -> None:
    assert retry_eta(None, NOW) is None
    assert retry_eta(NOW, NOW) is NOW
    assert retry_eta(90, NOW) == NOW + timedelta(seconds=90)
    assert retry_eta(0, NOW) == NOW
