"""What the programs of the chaos runs share: arguments, the report, the exit code, threads until SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.report import harms, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.checker import Findings
    from tests.chaos.history import Event
    from tests.chaos.nemesis import Nemesis

#: Exit code of a run whose violations prove nothing: see `is_void`.
VOID = 3


def arguments(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every run is told; `read` reads it."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="how long to do harm (10)")
    length.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--kills", type=int, default=100, help="least number of processes to kill (100)")
    parser.add_argument("--seed", type=int, default=None, help="what the nemesis and the others draw from")
    parser.add_argument("--history", type=Path, help="file to keep the history in")
    return parser


def read(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what the program was told; `seconds` and `seed` are there."""
    given = parser.parse_args()
    if given.seconds is None:
        given.seconds = 60 * (given.minutes or 10)
    if given.seed is None:
        given.seed = time.time_ns() % 1_000_000
    what = " on ".join([parser.prog, *filter(None, [getattr(given, "store", None)])])
    print(f"{what}: {given.seconds:g} s, at least {given.kills} kills, seed {given.seed}", flush=True)  # noqa: T201
    return given


def conclude(
    given: argparse.Namespace,
    events: Sequence[Event],
    check: Callable[[Sequence[Event]], Findings],
    nemesis: Nemesis,
) -> int:
    """Keep the history, print the report and return the exit code: 0 means no violation, and enough harm done."""
    keep(given, events)
    findings = check(events)
    print(table(findings, nemesis.done))  # noqa: T201
    if findings.violations:
        print(harms(events))  # noqa: T201
        if is_void(events):
            return VOID
    enough = nemesis.kills >= given.kills
    if not enough:
        print(f"only {nemesis.kills} kills, not {given.kills}")  # noqa: T201
    return 0 if enough and not findings.violations else 1


def keep(given: argparse.Namespace, events: Sequence[Event]) -> None:
    """Write the history where the program was told to."""
    if given.history is not None:
        given.history.write_text("".join(json.dumps(event) + "\n" for event in events))


def is_void(events: Sequence[Event]) -> bool:
    """Tell whether the clock was set during a run, by which the store lets leases end: no rule holds then."""
    sets = [event for event in events if event["e"] == "clock set"]
    for event in sets:
        print(f"void: the clock of this machine was set by {event['by']:+.3f} s at {event['t']:.3f}")  # noqa: T201
    return bool(sets)


def until_told(work: Callable[[int, threading.Event], None]) -> None:
    """Run `work(seed, stop)` in threads until SIGTERM: seed and number of threads are the program's arguments."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=work, args=(seed + number, stop)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
