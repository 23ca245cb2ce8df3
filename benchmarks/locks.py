"""What a lock costs, and how long its next holder waits: ours, redis-py's, python-redis-lock's and kazoo's in one run.

`python -m benchmarks.locks` prints the table and writes it to docs/benchmarks/locks.md. The contenders take turns in
rounds, so that what else the machine does falls on all of them; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from benchmarks.contenders import CONTENDERS, Evalsha, OurScripts, Servers, set_up
from tests.servers import RedisServer, ServerMissing
from tests.servers_zookeeper import ZooKeeperServer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.contenders import Contender

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "locks.md"
COLUMNS = (
    "lock",
    "renewed while held",
    "take + give back, median µs",
    "p99 µs",
    "x the floor",
    "x our scripts alone",
    "handoff, median ms",
    "p99 ms",
    "x ours on Redis",
)


@dataclass
class Figures:
    """What was measured of one contender, in seconds, round by round."""

    takes: list[list[float]] = field(default_factory=list)
    handoffs: list[float] = field(default_factory=list)


class Waiter:
    """Another process, which waits for the lock and tells when it had it."""

    def __init__(self, number: int, servers: Servers) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_wait, args=(number, servers, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def handoff(self, contender: Contender, chance: random.Random) -> float:
        """Hold, let the other one wait, give back; returns the seconds until the other one has it."""
        with contender.held():
            self._pipe.send(True)
            self._pipe.recv()  # it is about to ask
            # Long enough for it to be asleep, and at no fixed phase of whatever it polls by.
            time.sleep(chance.uniform(0.05, 0.15))
            began = monotonic()
        had: float = self._pipe.recv()
        return had - began

    def close(self) -> None:
        self._pipe.send(False)
        self._process.join(10)
        self._process.kill()


def _wait(number: int, servers: Servers, pipe: Connection) -> None:
    set_up(servers)
    contender = CONTENDERS[number](servers)
    contender.begin()
    with contender.held():
        pass
    pipe.send(None)
    while pipe.recv():
        pipe.send(None)
        with contender.held():
            had = monotonic()
        pipe.send(had)
    contender.close()


def take_and_give_back(contender: Contender, times: int) -> list[float]:
    """Return how long each took."""
    taken = []
    for _ in range(times):
        began = perf_counter()
        with contender.held():
            pass
        taken.append(perf_counter() - began)
    return taken


def measure(contenders: list[Contender], rounds: int, takes: int, handoffs: int) -> dict[str, Figures]:
    """Let the contenders take turns."""
    chance = random.Random(1)  # noqa: S311 - phases, no secrets
    figures: dict[str, Figures] = defaultdict(Figures)
    with ExitStack() as stack:
        waiters = {}
        for contender in contenders:
            contender.begin()
            take_and_give_back(contender, 20)  # connected, scripts loaded
            if contender.waits:
                number = CONTENDERS.index(type(contender))
                waiters[contender.title] = waiter = Waiter(number, contender.servers)
                stack.callback(waiter.close)
        for _ in range(rounds):
            chance.shuffle(contenders)
            for contender in contenders:
                contender.begin()
                figures[contender.title].takes.append(take_and_give_back(contender, takes))
        for _ in range(handoffs):
            chance.shuffle(contenders)
            for contender in contenders:
                if contender.waits:
                    contender.begin()
                    waited = waiters[contender.title].handoff(contender, chance)
                    figures[contender.title].handoffs.append(waited)
    return figures


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def table(contenders: list[Contender], figures: dict[str, Figures]) -> list[str]:
    """Return the rows, in the order of :data:`CONTENDERS`; who is missing has a row that says why."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "--:|" * (len(COLUMNS) - 2),
    ]
    reference = [one.handoffs for title, one in figures.items() if title == "`locks.lock` on Redis"]
    for contender in sorted(contenders, key=lambda one: CONTENDERS.index(type(one))):
        gap = contender.missing()
        if gap is not None:
            lines.append(f"| {contender.title} | not measured: {gap} | | | | | | | |")
            continue
        found = figures[contender.title]
        takes = [taken for each in found.takes for taken in each]
        cells = [
            contender.title,
            contender.renewed,
            f"{median(takes) * 1e6:.0f}",
            f"{percentile(takes, 0.99) * 1e6:.0f}",
            f"{_ratio(found, figures[Evalsha.title]):.2f}",
            f"{_ratio(found, figures[OurScripts.title]):.2f}",
        ]
        if found.handoffs:
            cells += [
                f"{median(found.handoffs) * 1e3:.2f}",
                f"{percentile(found.handoffs, 0.99) * 1e3:.2f}",
                f"{median(found.handoffs) / median(reference[0]):.1f}" if reference else "",
            ]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(found: Figures, floor: Figures) -> float:
    pairs = zip(found.takes, floor.takes, strict=True)
    return median(median(ours) / median(theirs) for ours, theirs in pairs)


def page(contenders: list[Contender], figures: dict[str, Figures], given: argparse.Namespace) -> str:
    """Return the page that is written."""
    there = [one for one in contenders if one.missing() is None]
    packages = sorted({package for one in there for package in one.packages})
    versions = ", ".join(f"{name} {version(name)}" for name in ("celery", "django", *packages))
    servers = sorted({"redis-server", *("ZooKeeper" for one in there if one.needs_zookeeper)})
    return "\n".join(
        [
            "# What a lock costs",
            "",
            "Made by `python -m benchmarks.locks`; a benchmark is not a test. One process takes and gives back a free lock;",
            "for the handoff another process waits for the lock, and the time counts from the start of giving back until that",
            "process holds it. Every contender has a process of its own for that, all in one run: they take turns in",
            f"{given.rounds} rounds of {given.takes}, and {given.handoffs} handoffs each. Ratios are medians of the ratios within a round.",
            "",
            *table(contenders, figures),
            "",
            f"Python {platform.python_version()}, {versions}. Servers on loopback, one of each: {', '.join(servers)}",
            f"({_redis_version(there)}). {os.cpu_count()} CPUs ({_cpu()}), {platform.system()}, load {os.getloadavg()[0]:.1f} at the end.",
            "",
        ]
    )


def _redis_version(contenders: list[Contender]) -> str:
    floor = next(one for one in contenders if isinstance(one, Evalsha))
    return f"Redis {floor.client.info('server')['redis_version']}"


def _cpu() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--takes", type=int, default=100, help="in each round (100)")
    parser.add_argument("--handoffs", type=int, default=100, help="of each contender (100)")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write")
    given = parser.parse_args()
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        zookeeper = None
        try:
            zookeeper = stack.enter_context(ZooKeeperServer()).url
        except ServerMissing as exc:
            print(exc, file=sys.stderr)  # noqa: T201
        servers = Servers(redis=redis.url, zookeeper=zookeeper)
        set_up(servers)
        contenders = [one(servers) for one in CONTENDERS]
        there = [one for one in contenders if one.missing() is None]
        figures = measure(there, given.rounds, given.takes, given.handoffs)
        text = page(contenders, figures, given)
        for contender in there:
            contender.close()
    given.page.parent.mkdir(parents=True, exist_ok=True)
    given.page.write_text(text)
    print(text)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
