"""A process that takes locks and is no worker: `python -m tests.lock_chaos.client SEED THREADS`, until SIGTERM."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import django

from tests.chaos.program import until_told
from tests.lock_chaos.holding import attempt, observe, planned, waiting
from tests.lock_chaos.targets import TARGETS

if TYPE_CHECKING:
    import threading

#: Seconds between two attempts of a thread, at least and at most.
PAUSE = (0.02, 0.3)


def take_locks(seed: int, stop: threading.Event) -> None:
    chance = random.Random(seed)
    targets = [target for target in TARGETS.values() if target.kind != "mutex"]
    while not stop.wait(chance.uniform(*PAUSE)):
        target = chance.choice(targets)
        attempt(target, os.getpid(), target.held, planned(chance), **waiting(chance))


def main() -> None:
    django.setup()
    from tests.lock_chaos import broken

    broken.apply()
    observe()
    until_told(take_locks)


if __name__ == "__main__":
    main()
