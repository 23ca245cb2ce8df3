"""What a history is made of once it is read: bodies, accepted tasks, stretches of claims, harms."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.history import Event


@dataclass(kw_only=True)
class Run:
    """One body: what it wrote down, and how it died if it wrote no end."""

    key: str
    task: str
    fence: int
    pid: int
    worker: int
    start: float
    lost_at_start: bool = False
    lost_at: float | None = None
    told: bool = True
    regained: bool = False
    last_ok: float | None = None
    end: float | None = None
    how: str = ""
    #: Earliest and latest moment of its death, where it did not end.
    died: tuple[float, float] | None = None
    #: Killed alone, by the nemesis or its time limit: its worker lived on to see it.
    alone: bool = False

    @property
    def trusted_until(self) -> float:
        """The last moment at which the body could believe in its claim."""
        if self.lost_at_start:
            return -inf
        if self.last_ok is not None:
            return self.last_ok
        return self.died[0] if self.died else inf

    @property
    def over(self) -> float:
        """When the body was no more."""
        if self.end is not None:
            return self.end
        return self.died[1] if self.died else inf


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A stretch of a claim: it stands from `begin` on for sure until `until`, at the latest until `bound`."""

    begin: float
    until: float
    bound: float
    #: The earliest moment at which it may have begun.
    earliest: float


@dataclass(kw_only=True)
class Life:
    """One accepted task."""

    call: Event
    traits: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    received: list[Event] = field(default_factory=list)
    preruns: list[Event] = field(default_factory=list)
    state: str = ""
    replaced: Event | None = None
    holds: list[Hold] = field(default_factory=list)

    @property
    def task(self) -> str:
        return str(self.call["task"])

    @property
    def key(self) -> str:
        return str(self.call["key"])

    @property
    def finished(self) -> float | None:
        """When a body of it came to its end."""
        return min(
            (run.end for run in self.runs if run.end is not None and run.how in ("ok", "fail")), default=None
        )


@dataclass(kw_only=True)
class Span:
    """A kill, a freeze or an outage."""

    t: float
    to: float
    worker: int | None = None
    pid: int | None = None

    def touches(self, begin: float, end: float) -> bool:
        return self.t <= end and self.to >= begin


def spans(events: Iterable[Event], name: str) -> list[Span]:
    """Return the harms of one kind."""
    return [
        Span(t=event["t"], to=event["to"], worker=event.get("worker"), pid=event.get("pid"))
        for event in events
        if event["e"] == name
    ]


def outages(events: Iterable[Event]) -> list[Span]:
    """Return when the store was away; what both the nemesis and the observer wrote down is one outage."""
    joined: list[Span] = []
    for span in sorted(spans(events, "outage"), key=lambda span: span.t):
        if joined and joined[-1].to >= span.t:
            joined[-1].to = max(joined[-1].to, span.to)
        else:
            joined.append(span)
    return joined


def asked_by(run: Run, life: Life) -> float:
    """When the process began with a message: it asked for the claim between that and the body."""
    return max((prerun["t"] for prerun in life.preruns if prerun["t"] <= run.start), default=run.start)
