"""What so many entries cost a beat: ours, Celery's and redbeat. Nothing is sent: what a message costs is the broker's.

Each measure takes the number of entries and returns nanoseconds by name: the ``first`` start, with nothing known of the
entries; the ``takeover`` of what another one wrote; a ``tick`` with nothing due; one that also ``look``s at the
schedule; and to ``fire`` one slot.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from .base import each

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Measure

#: How often each is done.
TICKS, LOOKS, FIRES = 200, 20, 500
KINDS = ("interval", "crontab")


def schedule(entries: int, kind: str) -> dict[str, Any]:
    """Return entries that are due in an hour at the earliest, or the same as crontabs."""
    from celery.schedules import crontab

    def when(number: int) -> Any:
        return crontab(minute=number % 60, hour=number % 24) if kind == "crontab" else 3600.0 + number

    return {f"entry {number}": {"task": "plain", "schedule": when(number)} for number in range(entries)}


def silent(scheduler: type) -> Any:
    """Return a scheduler that sends nothing."""

    def apply_async(self: Any, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> None:
        return None

    return type(f"Silent{scheduler.__name__}", (scheduler,), {"producer": None, "apply_async": apply_async})


def once(step: Callable[[], Any]) -> list[int]:
    """Return the nanoseconds of one step."""
    return each(lambda _: step(), (0,))


def times(step: Callable[[], Any], number: int) -> list[int]:
    """Return those of so many."""
    return each(lambda _: step(), range(number))


def _by_kind(measure: Callable[[int], dict[str, list[int]]], app: Any) -> dict[str, Measure]:
    def of(kind: str) -> Measure:
        def run(entries: int) -> dict[str, list[int]]:
            app.conf.beat_schedule = schedule(entries, kind)
            return measure(entries)

        return run

    return {f"beat.{kind}": of(kind) for kind in KINDS}


def our_beat(app: Any) -> dict[str, Measure]:
    """Return the measures of ours."""

    def measure(entries: int) -> dict[str, list[int]]:
        from django_celery_extensions.beat import LockedPersistentScheduler

        kind = silent(LockedPersistentScheduler)
        before = kind(app=app)
        first = once(before.tick)
        before.close()
        beat = kind(app=app)
        takeover = once(beat.tick)

        def look() -> None:
            beat._look_at = 0.0
            beat.tick()

        idle, looks = times(beat.tick, TICKS), times(look, LOOKS)
        # All are due: each tick fires one, and writes once.
        now = beat.clock.now
        beat.clock.now = lambda: now() + 30 * 3600 * 1_000_000
        fire = times(beat.tick, FIRES)
        beat.close()
        return {"first": first, "takeover": takeover, "tick": idle, "look": looks, "fire": fire}

    return _by_kind(measure, app)


def plain_beat(app: Any) -> dict[str, Measure]:
    """Return the measures of Celery's, without its file, so that they are those of the bare loop."""

    def measure(entries: int) -> dict[str, list[int]]:
        from celery.beat import Scheduler

        beat = silent(Scheduler)(app=app)
        return {"first": once(beat.tick), "tick": times(beat.tick, LOOKS)}

    return _by_kind(measure, app)


def redbeat_beat(app: Any) -> dict[str, Measure]:
    """Return the measures of redbeat, which reads its schedule when it is made, and fires at a tick all that is due."""

    def measure(entries: int) -> dict[str, list[int]]:
        from redbeat import schedulers

        kind = silent(schedulers.RedBeatScheduler)

        def begin() -> Any:
            made = kind(app=app)
            service = type("Service", (), {"scheduler": made})
            schedulers.acquire_distributed_beat_lock(sender=service)
            return made

        # Celery makes entries when the schedule is first looked at.
        began = perf_counter_ns()
        before = begin()
        before.tick()
        first = perf_counter_ns() - began
        before.close()
        began = perf_counter_ns()
        beat = begin()
        beat.tick()
        takeover = perf_counter_ns() - began
        idle = times(beat.tick, LOOKS)
        beat.close()
        return {"first": [first], "takeover": [takeover], "tick": idle}

    return _by_kind(measure, app)
