"""`python -m tests.chaos --minutes 10 --kills 100 --seed 1`: exit code 0 means no violation, and enough harm done."""

from __future__ import annotations

import sys

from tests.chaos.checker import check
from tests.chaos.program import arguments, conclude, read
from tests.chaos.run import Chaos, Plan


def main() -> int:
    parser = arguments("python -m tests.chaos", __doc__)
    parser.add_argument("--workers", type=int, default=3, help="workers alive at a time")
    given = read(parser)
    chaos = Chaos(Plan(seconds=given.seconds, kills=given.kills, seed=given.seed, workers=given.workers))
    return conclude(given, chaos.run(), check, chaos.nemesis)


if __name__ == "__main__":
    sys.exit(main())
