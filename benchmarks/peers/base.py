"""What the modules of peers are made of. Runs in every peer's venv: the standard library, and nothing else."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from time import monotonic, perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    #: Runs so many calls; returns the nanoseconds of each (or other figures).
    Measure = Callable[[int], Any]

#: Seconds that a lock lasts, of every peer that asks for it.
LASTS = 15
#: Arguments that no call had before.
fresh = count(1)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where an agent finds its servers: databases of a Redis that no other peer uses, and ZooKeeper (None: there is none)."""

    broker: str
    store: str
    zookeeper: str | None = None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What the conductor has to know of a peer before it can run."""

    #: The name of its module, and what ``--peers`` takes.
    name: str
    #: What the tables call it; ``{celery}`` is the version of that package.
    title: str
    #: The same in the chart, where that would be too long.
    short: str = ""
    #: What its venv needs, as pip takes it.
    requirements: tuple[str, ...] = ()
    #: Requirements that win over what the packages themselves ask for.
    overrides: tuple[str, ...] = ()
    #: Distributions whose versions the report names.
    packages: tuple[str, ...] = ()
    #: Groups of measures that it takes part in; it is a gap there if it can't run.
    groups: tuple[str, ...] = ()
    #: The peer that its ratios are to.
    base: str = "plain"
    #: The peer whose venv it shares, where it is not its own.
    venv: str = ""
    #: It is this repository, whose own requirements its venv needs too.
    ours: bool = False
    #: Versions of Python that it runs on, as uv takes them; "": the one that runs the conductor.
    python: str = ""
    #: It needs ZooKeeper.
    zookeeper: bool = False
    #: What is to be known of its figures, in a few words.
    note: str = ""
    #: Of a lock: whether it is kept alive while it is held.
    renewed: str = ""


def each(call: Callable[[Any], Any], values: Iterable[Any]) -> list[int]:
    """Call it with each value; return the nanoseconds of each call, with the end of what it returned."""
    spent = []
    for value in values:
        began = perf_counter_ns()
        call(value)
        spent.append(perf_counter_ns() - began)
    return spent


def calling(call: Callable[[Any], Any]) -> Measure:
    """Return the measure of a call with an argument that is new each time."""
    return lambda calls: each(call, [next(fresh) for _ in range(calls)])


def repeating(call: Callable[[Any], Any], first: Callable[[Any], Any] | None = None) -> Measure:
    """Return the measure of a call with one argument, after a first call that is not timed."""

    def measure(calls: int) -> list[int]:
        value = next(fresh)
        (first or call)(value)
        return each(call, [value] * calls)

    return measure


def together(call: Callable[[list[Any]], Any]) -> Measure:
    """Return the measure of a call that takes many arguments at once: nanoseconds for each of them."""

    def measure(calls: int) -> list[int]:
        values = [next(fresh) for _ in range(calls)]
        began = perf_counter_ns()
        call(values)
        return [(perf_counter_ns() - began) // calls]

    return measure


def marking(servers: Servers) -> Callable[[], None]:
    """Return the body of a task that tells when it ran: the first and the last of what a worker works off."""

    def mark() -> None:
        from redis import Redis

        with Redis.from_url(servers.store) as client:
            client.rpush("bench.done", perf_counter_ns())

    return mark


# --- locks -----------------------------------------------------------------------------------------------------


def lock_measures(
    held: Callable[[], AbstractContextManager[Any]], *, waits: bool = True
) -> dict[str, Measure]:
    """Return the measures of a lock, which ``held`` takes (waiting for it) and gives back.

    Of a handoff, two agents do one half each: ``locks.hold`` and ``locks.give_back`` (the moment it began), and
    ``locks.wait``, which answers twice: it is about to ask, and the moment when it had the lock.
    """
    holding = ExitStack()

    def pair(_: Any) -> None:
        with held():
            pass

    def hold(_: int) -> None:
        holding.enter_context(held())

    def give_back(_: int) -> float:
        began = monotonic()
        holding.close()
        return began

    def wait(_: int) -> Iterator[float | None]:
        yield None
        with held():
            had = monotonic()
        yield had

    handoff = {"locks.hold": hold, "locks.give_back": give_back, "locks.wait": wait}
    return {"locks.pair": calling(pair), **(handoff if waits else {})}


# --- the process itself ----------------------------------------------------------------------------------------

_IMPORT = """
import json, os, sys, time
def resident():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, after = json.loads(sys.argv[1])
exec(compile(before, "before", "exec"), {})
memory, modules, began = resident(), len(sys.modules), time.perf_counter_ns()
exec(compile(after, "after", "exec"), {})
print(json.dumps({"ns": time.perf_counter_ns() - began, "bytes": resident() - memory, "modules": len(sys.modules) - modules}))
"""


def imported(before: str, after: str) -> Measure:
    """Return the measure of what ``after`` adds to a new process that has run ``before``: nanoseconds, bytes, modules."""

    def measure(_: int) -> Any:
        command = [sys.executable, "-c", _IMPORT, json.dumps([before, after])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout)

    return measure


def resting(seconds: int) -> dict[str, float]:
    """Sleep, and tell what the other threads of this process did meanwhile: CPU and wake-ups of a minute."""
    cpu, woken = process_time_ns(), resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    time.sleep(seconds)
    cpu, woken = process_time_ns() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - woken
    # One of them is the sleep's own.
    return {"cpu_ns": cpu * 60 / seconds, "woken": (woken - 1) * 60 / seconds}
