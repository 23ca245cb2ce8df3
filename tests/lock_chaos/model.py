"""A history read as calls and holdings: who waited when, who held what, and until when they could believe in it.

Pure: events in, calls and holdings out. What is forbidden stands in `checker` and `registers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tests.chaos.lives import Run, Span, outages, spans
from tests.chaos.model import GRACE, MOMENT, Story

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.history import Event


@dataclass(kw_only=True)
class Call:
    """One attempt to hold a name."""

    name: str
    call: str
    pid: int
    worker: int
    begin: float
    #: When it had a place in the queue.
    queued: float = inf
    #: When it was answered, or its process ended at the latest.
    end: float = inf
    #: took, none, failed; empty where the process ended.
    how: str = ""
    error: str = ""
    unavailable: bool = False

    def __str__(self) -> str:
        return f"{self.call} in {self.pid} of {self.worker}"


class Locks:
    """The whole history."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: float(event["t"]))
        setup = self.of("setup")[0]
        self.lease = float(setup["lease"])
        self.most: dict[str, int] = setup["most"]
        self.kills, self.freezes = (spans(self.events, name) for name in ("kill", "freeze"))
        self.outages = outages(self.events)
        self.calls: dict[str, Call] = {}
        self.holdings: dict[str, Run] = {}
        self._read()
        for call in self.calls.values():
            if not call.how:
                died = self.death(call.worker, call.pid, call.begin)
                call.end = died[1] if died else inf
        for holding in self.holdings.values():
            if holding.end is None:
                holding.died = self.death(holding.worker, holding.pid, holding.start)

    def of(self, *names: str) -> list[Event]:
        return [event for event in self.events if event["e"] in names]

    def _read(self) -> None:
        for event in self.of("want", "queued", "took", "none", "failed", "lost", "gave"):
            kind, call = event["e"], event["call"]
            if kind == "want":
                about = {name: event[name] for name in ("name", "call", "pid", "worker")}
                self.calls[call] = Call(**about, begin=event["t"])
            elif kind == "took":
                self.holdings[call] = Run(
                    key=event["name"],
                    task=call,
                    fence=event["fence"],
                    pid=event["pid"],
                    worker=event["worker"],
                    start=event["t"],
                    lost_at_start=event["lost"],
                )
            elif kind in ("lost", "gave"):
                self._read_end(self.holdings[call], event)
            if kind == "queued":
                self.calls[call].queued = event["t"]
            elif call in self.calls and kind in ("took", "none", "failed"):
                asked = self.calls[call]
                asked.how, asked.end = kind, event["t"]
                asked.error, asked.unavailable = event.get("error", ""), event.get("unavailable", False)

    @staticmethod
    def _read_end(holding: Run, event: Event) -> None:
        holding.last_ok = event["last_ok"]
        if event["e"] == "lost":
            holding.lost_at, holding.told = event["t"], event["told"]
        else:
            holding.end, holding.how, holding.regained = event["t"], event["how"], event["regained"]

    def death(self, worker: int, pid: int, since: float) -> tuple[float, float] | None:
        """Return the earliest and the latest moment at which a process ended, None where nobody killed it."""
        kills = [kill for kill in self.kills if kill.to >= since and Story.hits(kill, worker, pid)]
        if not kills:
            return None
        kill = min(kills, key=lambda kill: kill.t)
        # What is frozen when it dies has believed in nothing since it was frozen.
        frozen = [
            span.t
            for span in self.freezes
            if Story.hits(span, worker, pid) and span.t <= kill.t <= span.to + MOMENT
        ]
        return min([kill.t, *frozen]), kill.to

    def outage(self, begin: float, end: float) -> bool:
        """Tell whether the store was away at some time of a stretch."""
        return any(span.touches(begin, end) for span in self.outages)

    def harmed(self, begin: float, end: float, worker: int, pid: int) -> bool:
        """Tell whether this process was killed or frozen at some time of a stretch."""
        return any(
            span.touches(begin, end) for span in (*self.kills, *self.freezes) if Story.hits(span, worker, pid)
        )

    def disturbed(self, begin: float, end: float, worker: int, pid: int) -> bool:
        return self.outage(begin, end) or self.harmed(begin, end, worker, pid)


def by_name(locks: Locks) -> dict[str, tuple[list[Run], list[Call]]]:
    """Return the holdings and the calls of each name, in the order of their beginnings."""
    found: dict[str, tuple[list[Run], list[Call]]] = {name: ([], []) for name in locks.most}
    for holding in sorted(locks.holdings.values(), key=lambda holding: holding.start):
        found[holding.key][0].append(holding)
    for call in sorted(locks.calls.values(), key=lambda call: call.begin):
        found[call.name][1].append(call)
    return found


__all__ = ["GRACE", "Call", "Locks", "Run", "Span", "by_name"]
