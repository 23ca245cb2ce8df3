"""Pure rules about time: durations, the stale limit of a claim, the expiry of a message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from django_celery_extensions.config import UNSET, Unset
from django_celery_extensions.exceptions import StaleLimitMissing, TaskConfigurationError

#: Seconds a claim lasts where nobody says and nothing is known to compute it from.
ONE_DAY = 24 * 60 * 60.0
#: Seconds by which a worker may think that a message has not expired yet.
CLOCKS_DIFFER = 1.0


def seconds(value: float | timedelta, what: str, *, or_zero: bool = False) -> float:
    """Return a duration in seconds; ``or_zero``: it may be 0.

    Raises :class:`TaskConfigurationError`, naming ``what``, unless it is a positive number or timedelta.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif type(value) in (int, float):  # not bool
        number = float(value)
    else:
        msg = f"{what} is {value!r}; give a number of seconds or a timedelta"
        raise TaskConfigurationError(msg)
    if not (0 < number < inf or (or_zero and number == 0)):
        least = "0 seconds or more" if or_zero else "more than 0 seconds"
        msg = f"{what} is {value!r}; it must be {least}, and come to an end"
        raise TaskConfigurationError(msg)
    return number


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a claim may last, and when a message becomes too old to be started.

    ``stale`` counts from sending to the start of the body, and again from the start to the end.
    ``expires`` are seconds from the moment the message may run, or None: it never gets too old.
    """

    stale: float
    expires: float | None


#: Limits where nobody says and nothing is known.
DAY_LONG = Limits(stale=ONE_DAY, expires=None)


def limits(
    *,
    call: float | timedelta | None,
    task: float | timedelta | None,
    default: float | timedelta | Unset | None,
    time_limit: float | None,
    max_queue_waiting_time: float | None,
) -> Limits:
    """Decide the stale limit: call, task, the project's default, computed, one day (contract, 4).

    A retry or a countdown needs no part in it: the claim is armed anew for each wait.

    Raises :class:`StaleLimitMissing` where the project's default is None and nothing can be computed.
    """
    computed = None
    if time_limit is not None and max_queue_waiting_time is not None:
        computed = time_limit + max_queue_waiting_time
    if call is not None:
        stale = seconds(call, "stale_time_limit")
    elif task is not None:
        stale = seconds(task, "stale_time_limit")
    elif default is not None and not isinstance(default, Unset):
        stale = seconds(default, "DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT")
    elif computed is not None:
        stale = computed
    elif default is UNSET:
        return DAY_LONG
    else:
        msg = (
            "DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT is None and there is nothing to compute a "
            "stale limit from: give the task a stale_time_limit, or both a time_limit and a max_queue_waiting_time"
        )
        raise StaleLimitMissing(msg)
    if time_limit is None:
        return Limits(stale=stale, expires=None)
    return Limits(stale=stale, expires=stale - time_limit if stale > time_limit else stale)


def delay_until(countdown: float | None, eta: datetime | str | None, now: datetime) -> float:
    """Return the seconds from ``now`` (aware) until a message with this countdown or ETA may run."""
    if countdown is not None:
        return max(0.0, float(countdown))
    if eta is None:
        return 0.0
    return max(0.0, _from(now, eta))


def queued_for(stale: float, delay: float, expires: float | datetime | str | None, now: datetime) -> float:
    """Return the seconds that a queued claim lasts: its stale limit, after the delay before its message may run.

    But not for longer than a worker could start the message. RabbitMQ drops one that has expired, and tells nobody.
    """
    lasts = stale + delay
    if expires is None:
        return lasts
    ends = _from(now, expires) if isinstance(expires, (str, datetime)) else float(expires)
    return min(lasts, max(0.0, ends) + CLOCKS_DIFFER)


def _from(now: datetime, moment: datetime | str) -> float:
    when = datetime.fromisoformat(moment.replace("Z", "+00:00")) if isinstance(moment, str) else moment
    if when.tzinfo is None:
        when = when.replace(tzinfo=now.tzinfo)
    return (when - now).total_seconds()


def retry_eta(when: datetime | float | None, now: datetime) -> datetime | None:
    """Return the moment of a retry from what Celery's ``Retry`` says: a moment, seconds from now, or nothing."""
    if when is None or isinstance(when, datetime):
        return when
    return now + timedelta(seconds=float(when))
