"""`python -m tests.chaos --minutes 10 --kills 100 --seed 1`: exit code 0 means no violation, and enough harm done."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.report import table
from tests.chaos.run import Chaos, Plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="how long to do harm (10)")
    length.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--kills", type=int, default=100, help="least number of workers and children to kill")
    parser.add_argument("--seed", type=int, default=None, help="what the nemesis and the producers draw from")
    parser.add_argument("--workers", type=int, default=3, help="workers alive at a time")
    parser.add_argument("--history", type=Path, help="file to keep the history in")
    given = parser.parse_args()
    seconds = given.seconds if given.seconds is not None else 60 * (given.minutes or 10)
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    plan = Plan(seconds=seconds, kills=given.kills, seed=seed, workers=given.workers)
    print(f"chaos for {seconds:g} s, at least {plan.kills} kills, seed {seed}", flush=True)  # noqa: T201
    chaos = Chaos(plan)
    events = chaos.run()
    if given.history is not None:
        given.history.write_text("".join(json.dumps(event) + "\n" for event in events))
    findings = check(events)
    print(table(findings, chaos.nemesis.done))  # noqa: T201
    enough = chaos.nemesis.kills >= plan.kills
    if not enough:
        print(f"only {chaos.nemesis.kills} kills, not {plan.kills}")  # noqa: T201
    return 0 if enough and not findings.violations else 1


if __name__ == "__main__":
    sys.exit(main())
