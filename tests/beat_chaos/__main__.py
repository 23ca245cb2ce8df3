"""`python -m tests.beat_chaos --minutes 10 --peers`: exit code 0 means that ours broke no rule."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.beat_chaos.checker import check, check_peer, table
from tests.beat_chaos.run import BOUND, OURS, BeatChaos, peers
from tests.chaos.program import VOID, is_void, keep
from tests.chaos.report import harms


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.beat_chaos", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="how long to do harm (10)")
    length.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--peers", action="store_true", help="harm plain beat, and redbeat, too")
    parser.add_argument("--peer-minutes", type=float, help="how long to harm each of them (as ours)")
    parser.add_argument(
        "--redbeat-python", help="an interpreter that has celery-redbeat, Django and the test group"
    )
    parser.add_argument("--seed", type=int, default=None, help="what the nemesis draws from")
    parser.add_argument("--history", type=Path, help="file to keep the history of ours in")
    given = parser.parse_args()
    seconds = given.seconds if given.seconds is not None else 60 * (given.minutes or 10)
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    print(f"beat chaos for {seconds:g} s, seed {seed}", flush=True)  # noqa: T201
    run = BeatChaos(OURS, seconds, seed)
    events = run.run()
    keep(given, events)
    ours = check(events, bound=BOUND, records=run.records)
    rows = {OURS.name: (ours, run.done)}
    print(table(rows, BOUND), flush=True)  # noqa: T201
    print(f"slots sent again: {ours.counts['slots sent again']}", flush=True)  # noqa: T201
    print(f"violations: {len(ours.violations)}", flush=True)  # noqa: T201
    if given.peers:
        peer_seconds = seconds if given.peer_minutes is None else 60 * given.peer_minutes
        for system in peers(given.redbeat_python):
            other = BeatChaos(system, peer_seconds, seed)
            rows[system.name] = (check_peer(other.run()), other.done)
            print(f"done: {system.name}", flush=True)  # noqa: T201
        print(table(rows, BOUND), flush=True)  # noqa: T201
    if not ours.violations:
        return 0
    print(harms(events))  # noqa: T201
    return VOID if is_void(events) else 1


if __name__ == "__main__":
    sys.exit(main())
