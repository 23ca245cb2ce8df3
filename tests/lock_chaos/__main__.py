"""`python -m tests.lock_chaos --store redis --minutes 10`: exit code 0 means no violation, and enough harm done."""

from __future__ import annotations

import sys

from tests.chaos.program import arguments, conclude, read
from tests.lock_chaos.broken import WAYS
from tests.lock_chaos.checker import check
from tests.lock_chaos.run import LockChaos, Plan


def main() -> int:
    parser = arguments("python -m tests.lock_chaos", __doc__)
    parser.add_argument(
        "--store", choices=("redis", "zookeeper"), default="redis", help="where the locks are (redis)"
    )
    parser.add_argument("--lease", type=float, default=2.0, help="seconds that a lock outlives its holder")
    parser.add_argument("--broken", choices=[*WAYS], default="", help="break the locks on purpose")
    given = read(parser)
    plan = Plan(
        store=given.store,
        seconds=given.seconds,
        kills=given.kills,
        seed=given.seed,
        lease=given.lease,
        broken=given.broken,
    )
    chaos = LockChaos(plan)
    return conclude(given, chaos.run(), check, chaos.nemesis)


if __name__ == "__main__":
    sys.exit(main())
