"""Play all endings on one pool with the Celery that is installed here: `python -m tests.endings.measure POOL [ENDING …]`.

The environment names the servers, as it does for a worker. Prints one JSON object: ending -> ms, or why not.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.endings.stage import Stage
    from tests.workers import Pool, Worker


def play(case: Callable[[Stage], float], stage: Stage) -> float | str:
    try:
        return round(case(stage), 1)
    except Exception as exc:
        line = f"{type(exc).__name__}: {exc}".splitlines()[0]
        return f"FAILED {line[:200]}"


def measure(pool: Pool, only: tuple[str, ...]) -> dict[str, float | str]:
    import django

    django.setup()
    from tests.endings.cases import CASES, LAST_CASES, MISSING
    from tests.endings.stage import Stage
    from tests.workers import Worker

    workers: list[Worker] = []

    def make(lease: str = os.environ["TEST_LOCK_TIMEOUT"]) -> Worker:
        env = {"TEST_LOCK_TIMEOUT": lease}
        workers.append(Worker(app="tests.endings", pool=pool, env=env).ready())
        return workers[-1]

    told: dict[str, float | str] = {}
    try:
        for name, case in {**CASES, **LAST_CASES}.items():
            if not name.startswith(only):
                continue
            missing = MISSING[pool].get(name)
            if missing is not None:
                told[name] = f"— {missing}"
                continue
            # Another worker that is still about would take the message.
            if name in LAST_CASES or not (workers and workers[-1].alive):
                close(workers)
                make()
            told[name] = play(case, Stage(workers[-1], make))
    finally:
        close(workers)
    return told


def close(workers: list[Worker]) -> None:
    while workers:
        workers.pop().close()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], tuple(sys.argv[2:]) or ("",))))  # type: ignore[arg-type] # noqa: T201 - what it is for
