"""Pure rules about slots: when the entries of beat are due, and what becomes of slots that were missed.

A slot is one due firing of one entry. It is named by the moment at which it was due, not by the one at which somebody
noticed: two processes, and two tries of one, mean the same slot by it. Moments are whole microseconds since the epoch.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from celery.schedules import crontab, schedule, solar

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.timing import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
#: The moment of what never comes.
NEVER = 253_402_300_000 * SECOND
#: No time zone moves its clocks by more than this.
_SHIFT = 3 * HOUR
#: Days in which a crontab must match once: 29 February on a given day of the week comes every 40 years at the most.
_LONGEST = 41 * 366
#: Two solar events of a kind are not this close: what is, is one event, calculated twice.
_ONE_EVENT = 60 * SECOND
#: How far to look back for the latest slot, in steps: most are found in the first.
_BACK = (2 * HOUR, DAY, 8 * DAY, 32 * DAY, 400 * DAY)


def moment_of(when: datetime) -> int:
    """Return an aware datetime as a moment."""
    return round((when - _EPOCH) / _MICROSECOND)


def when(moment: int, tz: tzinfo = timezone.utc) -> datetime:
    """Return a moment as an aware datetime."""
    return (_EPOCH + timedelta(microseconds=moment)).astimezone(tz)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


# --- what becomes of missed slots ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """What becomes of the slots that were missed while nobody led."""

    #: ``"latest"``: the last one of them is fired. ``"none"``: none is. ``"all"``: each is.
    kind: str = "latest"
    #: Microseconds after which a missed slot is fired no more.
    max_age: int | None = None


def catch_up_of(value: Any, what: str) -> CatchUp:
    """Read the option ``catch_up`` of the entry that ``what`` names.

    Raises :class:`TaskConfigurationError` unless it is ``"latest"``, ``"none"``, or ``("all", <maximum age>)``.
    """
    if value is None or value == "latest":
        return CatchUp()
    if value == "none":
        return CatchUp(kind="none")
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == "all":  # noqa: PLR2004 - a pair
        return CatchUp(kind="all", max_age=round(seconds(value[1], f"{what}: the age in catch_up") * SECOND))
    say = "give 'latest', 'none', or ('all', timedelta(hours=1)): all that are not older than that"
    msg = f"{what}: catch_up is {value!r}; {say}"
    raise TaskConfigurationError(msg)


# --- when an entry is due ------------------------------------------------------------------------------------


class Rule(ABC):
    """When one entry is due."""

    #: Changes when the schedule of the entry does.
    digest: str

    @abstractmethod
    def after(self, moment: int, last: int) -> int:
        """Return the first slot after a moment, where ``last`` was the last slot fired (or the first sight)."""

    def latest(self, after: int, until: int, last: int) -> int | None:
        """Return the latest slot that is later than ``after`` and not later than ``until``."""
        for back in (*_BACK, until - after):
            found = None
            for slot in self._between(max(after, until - back), until, last):
                found = slot
            if found is not None or until - back <= after:
                return found
        return None

    def due(
        self, *, done: int, last: int, now: int, since: int, catch_up: CatchUp, max_age: int | None = None
    ) -> int:
        """Return the slot to be fired next: it is due if it is not later than ``now``.

        ``done``: up to here all slots are settled. ``since``: the moment from which on somebody leads.
        ``max_age``: no older slot is fired.
        """
        ages = [age for age in (catch_up.max_age, max_age) if age is not None]
        after = max(done, now - min(ages) - 1) if ages else done
        if catch_up.kind == "all":
            return self.after(after, last)
        if catch_up.kind == "none":
            after = max(after, since)
        found = self.latest(after, now, last) if after < now else None
        return self.after(max(after, now), last) if found is None else found

    def _between(self, after: int, until: int, last: int) -> Iterator[int]:
        slot = self.after(after, last)
        while slot <= until:
            yield slot
            slot = self.after(slot, slot)


def rule_of(given: Any, tz: tzinfo, what: str) -> Rule:
    """Return the rule of a Celery schedule, for an app in the time zone ``tz``.

    Raises :class:`TaskConfigurationError`, naming ``what``, for what is none, and for an interval of 0 or less.
    """
    if not callable(getattr(given, "is_due", None)):
        msg = f"{what}: schedule is {given!r}; give a number of seconds, a timedelta, a crontab or another schedule"
        raise TaskConfigurationError(msg)
    kind: Any = type(given)
    every: Any = getattr(given, "run_every", None)
    if isinstance(every, timedelta) and not every > timedelta(0):
        msg = f"{what}: schedule is {every!r}; it must be more than 0 seconds"
        raise TaskConfigurationError(msg)
    if kind is schedule:
        return Estimate(given, tz) if getattr(given, "relative", False) else Interval(every)
    if kind is crontab:
        return Crontab(given, tz)
    known = (schedule, crontab, solar)
    if isinstance(given, known) and any(kind.is_due is base.is_due for base in known):
        return Estimate(given, tz)
    return Asked(given, tz)


class Interval(Rule):
    """Every so often, on a grid that goes through the last slot: a late firing makes no other one late."""

    def __init__(self, every: timedelta) -> None:
        self._step = max(1, round(every / _MICROSECOND))
        self.digest = _digest("every", self._step)

    def after(self, moment: int, last: int) -> int:
        """See :meth:`Rule.after`."""
        return last + ((moment - last) // self._step + 1) * self._step

    def latest(self, after: int, until: int, last: int) -> int | None:
        """See :meth:`Rule.latest`."""
        slot = last + (until - last) // self._step * self._step
        return slot if slot > after else None


class Crontab(Rule):
    """The minutes that match, by the wall clock of the app's time zone.

    Where the clocks go forward, a minute that does not come is due as many minutes after the change as it is after
    the hour that is left out. Where they go back, a minute that comes twice is due the first time, and both times
    if every hour matches.
    """

    def __init__(self, given: Any, tz: tzinfo) -> None:
        self._tz = tz
        self._times = sorted((hour, minute) for hour in given.hour for minute in given.minute)
        self._days = (given.month_of_year, given.day_of_month, given.day_of_week)
        self._shifts = str(tz) != "UTC"
        self._every_hour = len(given.hour) == 24  # noqa: PLR2004 - all there are
        parts = (given.minute, given.hour, given.day_of_month, given.month_of_year, given.day_of_week)
        self.digest = _digest("crontab", [sorted(part) for part in parts], str(tz))

    def after(self, moment: int, last: int) -> int:  # noqa: ARG002 - it has no grid
        """See :meth:`Rule.after`."""
        wall = when(moment, self._tz).replace(tzinfo=None, fold=0)
        following = self._matching(wall.replace(second=0, microsecond=0) + timedelta(minutes=1))
        if following is None:
            return NEVER
        slot = self._moments(following)[0]
        if not self._shifts or not (self._shifts_near(moment) or self._shifts_near(slot)):
            return slot
        return self._after_near_shift(moment, wall)

    def _after_near_shift(self, moment: int, wall: datetime) -> int:
        # The order of the wall clock is not that of time: look at all that may come next.
        found = NEVER
        candidate = self._matching(wall - timedelta(microseconds=_SHIFT))
        while candidate is not None:
            moments = self._moments(candidate)
            found = min([found, *(each for each in moments if each > moment)])
            if moments[0] > found + _SHIFT:
                break
            candidate = self._matching(candidate + timedelta(minutes=1))
        return found

    def _shifts_near(self, moment: int) -> bool:
        before, after = when(moment - _SHIFT, self._tz), when(moment + _SHIFT, self._tz)
        return before.utcoffset() != after.utcoffset()

    def _moments(self, wall: datetime) -> list[int]:
        first = moment_of(wall.replace(tzinfo=self._tz))
        if self._every_hour:
            second = moment_of(wall.replace(tzinfo=self._tz, fold=1))
            if second > first:  # before it: the minute does not come at all
                return [first, second]
        return [first]

    def _matching(self, wall: datetime) -> datetime | None:
        """Return the first matching minute that is not before ``wall``."""
        day = wall.date()
        if self._matches(day):
            index = bisect_left(self._times, (wall.hour, wall.minute))
            if index < len(self._times) and wall.second == wall.microsecond == 0:
                return self._at(day, index)
            while index < len(self._times):
                found = self._at(day, index)
                if found >= wall:
                    return found
                index += 1
        for _ in range(_LONGEST):
            day += timedelta(days=1)
            if self._matches(day):
                return self._at(day, 0)
        return None

    def _at(self, day: date, index: int) -> datetime:
        hour, minute = self._times[index]
        return datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - a wall clock

    def _matches(self, day: date) -> bool:
        months, days, weekdays = self._days
        return day.month in months and day.day in days and day.isoweekday() % 7 in weekdays


class Estimate(Rule):
    """What the schedule's own ``remaining_estimate`` says: solar events, intervals on round times, subclasses."""

    def __init__(self, given: Any, tz: tzinfo) -> None:
        self._schedule = _copy(given, lambda: self._now)
        self._tz = tz
        self._step: int | None = (
            round(given.run_every / _MICROSECOND) if hasattr(given, "run_every") else None
        )
        self._solar = isinstance(given, solar)
        self.digest = _digest_of(given, tz)

    def after(self, moment: int, last: int) -> int:
        """See :meth:`Rule.after`."""
        start = moment
        if self._step is not None:
            # On a grid like an interval's: start from the last slot that is sure to be before the one to be found.
            start = last + max(0, (moment - last) // self._step - 1) * self._step
        slot = self._next(start)
        while slot <= moment:
            slot = self._next(slot)
        if self._solar and abs(slot - last) < _ONE_EVENT:
            slot = self._next(max(moment, last) + _ONE_EVENT)
        return slot

    def _next(self, moment: int) -> int:
        self._now = when(moment, self._tz)
        following: int = moment + round(self._schedule.remaining_estimate(self._now) / _MICROSECOND)
        if self._solar:
            following = following // SECOND * SECOND  # the last digits depend on where the search began
        return max(following, moment + 1)


class Asked(Rule):
    """What only ``is_due`` knows: a slot is the moment at which it first says so."""

    def __init__(self, given: Any, tz: tzinfo) -> None:
        self._schedule = _copy(given, lambda: self._now)
        self._tz = tz
        self.digest = _digest_of(given, tz)

    def after(self, moment: int, last: int) -> int:
        """Return when to ask again; or the moment itself, where it is due now."""
        self._now = when(moment, self._tz)
        due, again_in = self._schedule.is_due(when(last, self._tz))
        return moment if due else moment + max(1, round(float(again_in) * SECOND))

    def due(
        self,
        *,
        done: int,
        last: int,
        now: int,
        since: int,  # noqa: ARG002 - for the others
        catch_up: CatchUp,  # noqa: ARG002 - likewise
        max_age: int | None = None,  # noqa: ARG002 - likewise
    ) -> int:
        """See :meth:`Rule.due`; such a schedule does not tell what was missed."""
        return self.after(max(now, done + 1), last)


def _copy(given: Any, now: Callable[[], datetime]) -> Any:
    """Return a schedule that takes ``now`` for the clock."""
    copied = copy.copy(given)  # Celery's forget their app when they are copied
    for name in ("app", "_app"):
        if name in vars(given):
            setattr(copied, name, vars(given)[name])
    copied.nowfun = now
    return copied


def _digest_of(given: Any, tz: tzinfo) -> str:
    kind: Any = type(given)
    # An object's own repr has its address in it.
    said = "" if kind.__repr__ is object.__repr__ else repr(given)
    return _digest(f"{kind.__module__}.{kind.__qualname__}", said, str(tz))


def _digest(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:16]
