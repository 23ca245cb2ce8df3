"""What 10,000 entries cost a beat: to take over, to tick, to fire. `python -m benchmarks.beat` prints the table.

Ours keeps its state in a redis-server of its own; Celery's keeps none here (its Scheduler, without a file), so that its
figures are those of the bare loop. Nothing is sent: what a message costs is the broker's.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = 10_000


def timed(step: Callable[[], Any], times: int) -> float:
    """Return the median of the milliseconds that a step takes."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        found.append(1000 * (time.perf_counter() - began))
    return median(found)


def schedule(entries: int, kind: str) -> dict[str, Any]:
    """Return entries that are due in an hour at the earliest, or the same as crontabs."""
    from celery.schedules import crontab

    return {
        f"entry {number}": {
            "task": "tests.project.tasks.add",
            "schedule": crontab(minute=number % 60, hour=number % 24)
            if kind == "crontab"
            else 3600.0 + number,
        }
        for number in range(entries)
    }


def measure(entries: int, kind: str, store: RedisServer) -> list[str]:
    """Return one line for ours and one for Celery's."""
    from celery.beat import Scheduler

    from django_celery_extensions.beat import LockedPersistentScheduler
    from tests.project.celery import app

    app.conf.beat_schedule = schedule(entries, kind)
    store.flush()

    class Silent(LockedPersistentScheduler):
        producer: Any = None

        def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
            return None

    class SilentCelery(Scheduler):
        producer: Any = None

        def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
            return None

    first = Silent(app=app)
    began = time.perf_counter()
    first.tick()
    fresh = 1000 * (time.perf_counter() - began)
    first.close()
    ours = Silent(app=app)
    began = time.perf_counter()
    ours.tick()
    takeover = 1000 * (time.perf_counter() - began)

    def look() -> None:
        ours._look_at = 0.0
        ours.tick()

    idle, looking = timed(ours.tick, 200), timed(look, 20)
    # All are due: each tick fires one, and writes once.
    now = ours.clock.now
    ours.clock.now = lambda: now() + 30 * 3600 * 1_000_000  # type: ignore[method-assign]
    fire = timed(ours.tick, 500)
    ours.close()

    theirs = SilentCelery(app=app)
    began = time.perf_counter()
    theirs.tick()
    start = 1000 * (time.perf_counter() - began)
    their_idle = timed(theirs.tick, 20)
    return [
        f"| ours | {kind} | {fresh:.0f} | {takeover:.0f} | {idle:.3f} | {looking:.2f} | {fire:.3f} |",
        f"| celery.beat.Scheduler | {kind} | {start:.0f} | - | {their_idle:.3f} | - | - |",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beat", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with RedisServer() as store:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_REDIS_URL": store.url}
        import django

        django.setup()
        lines = [
            f"{given.entries} entries, milliseconds:",
            "",
            "| scheduler | schedules | first start | takeover | tick, nothing due | and a look at the schedule | fire one slot |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind in ("interval", "crontab"):
            lines += measure(given.entries, kind, store)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
