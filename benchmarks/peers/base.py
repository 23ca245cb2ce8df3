"""What the modules of peers are made of. Runs in every peer's venv: the standard library, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Runs so many calls; returns the nanoseconds of each (or other figures).
    Measure = Callable[[int], Any]

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
    #: What the tables call it.
    title: str
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
    #: What is to be known of its figures, in a few words.
    note: str = ""


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
