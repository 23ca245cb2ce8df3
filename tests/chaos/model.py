"""A history read as the lives of tasks: when each may, and when each must, have held its claim.

Pure: events in, lives out. Leases, kills and stale limits are understood here; what is forbidden stands in `checker`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from tests.chaos.lives import Hold, Life, Run, Span, asked_by, outages, spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.history import Event

#: Seconds that a settled claim may be late: scheduling, one round trip.
GRACE = 1.0
#: Seconds within which a process that was thawed may not have run yet.
MOMENT = 0.25
#: Seconds after which billiard takes a child that does not answer for lost.
LOST_CHILD = 12.0
#: Seconds after which a delivery no longer asks a store that does not answer, and sends its message again.
GIVES_UP = 5.5
#: Seconds after which such a message comes back.
WAITS = 5.0


class Story:
    """The whole history."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: float(event["t"]))
        setup = self.of("setup")[0]
        self.lease, self.stale = float(setup["lease"]), float(setup["stale"])
        self.kinds: dict[str, dict[str, Any]] = setup["kinds"]
        self.kills = spans(self.events, "kill")
        self.freezes = spans(self.events, "freeze")
        self.outages = outages(self.events)
        self.calls = self.of("call")
        self.accepted = [call for call in self.calls if call["out"] == "triggered"]
        self.lives = {
            call["task"]: Life(call=call, traits=self.kinds[call["kind"]]) for call in self.accepted
        }
        self.runs: list[Run] = []
        self._read_runs()
        for event in self.of("received", "prerun", "state"):
            life = self.lives.get(event["task"])
            if life is not None and event["e"] == "state":
                life.state = event["state"]
            elif life is not None:
                (life.received if event["e"] == "received" else life.preruns).append(event)
        self._read_replaced()
        self._deliveries: dict[int, list[float]] = {}
        for event in self.of("prerun"):
            self._deliveries.setdefault(event["pid"], []).append(event["t"])
        for life in self.lives.values():
            life.holds = [*self._holds(life)]

    def of(self, *names: str) -> list[Event]:
        return [event for event in self.events if event["e"] in names]

    def _read_runs(self) -> None:
        open_runs: dict[tuple[Any, ...], Run] = {}
        for event in self.of("start", "lost", "end"):
            about = (event["task"], event["pid"], event["fence"])
            if event["e"] == "start":
                names = ("key", "task", "fence", "pid", "worker")
                run = Run(
                    **{name: event[name] for name in names}, start=event["t"], lost_at_start=event["lost"]
                )
                self.runs.append(run)
                open_runs[about] = run
                if event["task"] in self.lives:
                    self.lives[event["task"]].runs.append(run)
                continue
            run = open_runs[about]
            run.last_ok = event["last_ok"]
            if event["e"] == "lost":
                run.lost_at, run.told = event["t"], event["told"]
            else:
                run.end, run.how, run.regained = event["t"], event["how"], event["regained"]
        for run in self.runs:
            if run.end is None:
                self._read_death(run)

    def _read_death(self, run: Run) -> None:
        deaths = [
            (kill.t, kill.to, kill.pid is not None)
            for kill in self.kills
            if kill.to >= run.start
            and (kill.pid == run.pid or (kill.pid is None and kill.worker == run.worker))
        ]
        limit = self.kinds[run.key.partition(":")[0]]["limit"]
        if limit is not None:  # the worker's parent counts from a little before the body
            latest = run.start + limit + GRACE
            frozen = [
                span.to
                for span in self.freezes
                if span.worker == run.worker and span.touches(run.start, latest)
            ]
            deaths.append(
                (run.start + limit - GRACE / 2, max([latest, *(to + GRACE for to in frozen)]), True)
            )
        if not deaths:
            return
        began, ended, run.alone = min(deaths)
        # What is frozen when it dies has believed in nothing since it was frozen.
        frozen_since = [
            span.t
            for span in self.freezes
            if self.hits(span, run.worker, run.pid) and span.t <= began <= span.to + MOMENT
        ]
        run.died = (min([began, *frozen_since]), ended)

    def _read_replaced(self) -> None:
        waiting: dict[str, Life] = {}
        for call in sorted(self.accepted, key=lambda call: float(call["to"])):
            if self.kinds[call["kind"]]["policy"] == "replace":
                before = waiting.get(call["key"])
                # A running claim is never replaced.
                if before is not None and not any(run.start < call["t"] for run in before.runs):
                    before.replaced = call
                waiting[call["key"]] = self.lives[call["task"]]

    @staticmethod
    def hits(span: Span, worker: int, pid: int) -> bool:
        return span.worker == worker and span.pid in (None, pid)

    def disturbed(self, begin: float, end: float, worker: int = 0, pid: int = 0) -> bool:
        """Tell whether the store was away, or this process killed or frozen, at some time of a stretch."""
        return any(span.touches(begin, end) for span in self.outages) or any(
            span.touches(begin, end) for span in (*self.kills, *self.freezes) if self.hits(span, worker, pid)
        )

    def _holds(self, life: Life) -> Iterable[Hold]:
        yield self._queued(life)
        if life.traits["until_start"]:
            return
        following = [*(run.start for run in life.runs[1:]), None]
        for run, then in zip(life.runs, following, strict=False):
            yield from self._holds_of(run, life, then)
        # A delivery without a body may hold the claim for a moment, to find that it has to wait, or may give the
        # claim that it did not get an answer for back to the queue.
        for prerun in self._without_body(life):
            t, over = prerun["t"], self._over(prerun)
            bound = self._passed(t) + self.lease + GRACE
            if any(span.touches(t, over) for span in self.outages):
                later = min((run.start for run in life.runs if run.start > t), default=inf)
                bound = max(bound, min(later, self._passed(over) + WAITS + self.stale + GRACE))
            yield Hold(begin=t, until=t, bound=bound, earliest=t)

    def _queued(self, life: Life) -> Hold:
        """From the call to the first body."""
        call, delay = life.call, float(life.call["delay"])
        until = call["t"] + delay + self.stale
        bound = call["to"] + delay + self.stale + GRACE
        if life.replaced is not None:
            until, bound = min(until, life.replaced["t"]), life.replaced["to"]
        if life.traits["until_start"] and life.preruns:
            until = min(until, life.preruns[0]["t"])
        if life.traits["limit"] and life.state in ("REVOKED", "IGNORED"):
            until = min(until, call["t"] + self.stale - life.traits["limit"])
        until = min(until, self._kept_from(call["t"], life))
        for prerun in self._without_body(life):
            if life.traits["limit"]:  # its time is over while it waits for the store
                until = min(until, prerun["t"] + life.traits["limit"] - GRACE / 2)
        if life.runs:
            first = life.runs[0]
            bound = min(bound, first.start)
            if life.replaced is None:
                until = min(until, asked_by(first, life) if first.lost_at_start else first.start)
        return Hold(begin=call["to"], until=until, bound=bound, earliest=call["t"])

    def _without_body(self, life: Life) -> list[Event]:
        """The deliveries that did not come to a body."""
        begun = {asked_by(run, life) for run in life.runs}
        return [prerun for prerun in life.preruns if prerun["t"] not in begun]

    def _over(self, prerun: Event) -> float:
        """When a delivery without a body was over at the latest: its process goes on to another one, or gives up."""
        t = prerun["t"]
        following = min((other for other in self._deliveries[prerun["pid"]] if other > t), default=inf)
        return float(min(following, t + GIVES_UP))

    def _kept_from(self, moment: float, life: Life) -> float:
        """Until when a claim that is queued since then is sure to stand, whatever comes of the deliveries."""
        later = (prerun for prerun in self._without_body(life) if prerun["t"] >= moment)
        return min([self._ended_unseen(moment, life), *map(self._kept_without_body, later)])

    def _ended_unseen(self, moment: float, life: Life) -> float:
        """When a worker may have ended a task whose child was killed before it could write anything down."""
        if life.state != "FAILURE" or life.finished is not None or any(run.died for run in life.runs):
            return inf
        return min(
            (
                kill.t
                for kill in self.kills
                if kill.pid is not None
                and kill.to >= moment
                and any(kill.worker == event["worker"] and kill.to >= event["t"] for event in life.received)
            ),
            default=inf,
        )

    def _kept_without_body(self, prerun: Event) -> float:
        """Until when a claim is sure to stand in spite of a delivery that did not come to its body.

        A start that got no answer may have made a lease of it, which nobody renews. Its process puts that right as
        soon as the store is back; unless it is dead or frozen by then, or the store is away again.
        """
        t, over = prerun["t"], self._over(prerun)
        worker, pid = prerun["worker"], prerun["pid"]
        away = [span for span in self.outages if span.touches(t, over)]
        needed = max([over, *(span.to + self.lease + GRACE for span in away)]) if away else over
        if any(kill.touches(t, needed) and self.hits(kill, worker, pid) for kill in self.kills):
            return float(t)  # it may have been killed in its start: its worker settles
        frozen = any(span.touches(t, needed) and self.hits(span, worker, pid) for span in self.freezes)
        if not frozen and not away:
            return inf  # it was answered
        since = max([t, *(span.to for span in away if span.t <= t <= span.to)])
        again = any(span not in away[:1] and span.touches(t, needed) for span in self.outages)
        if frozen or again or since == t:
            return float(since + self.lease - GRACE)
        return inf

    def _killed_after(self, run: Run) -> bool:
        """Tell whether a process was killed that had ended a body, but perhaps not acknowledged its message."""
        ended = float(run.end or 0.0)
        following = min((t for t in self._deliveries.get(run.pid, ()) if t > ended), default=inf)
        over = min(following, ended + GIVES_UP)
        return any(kill.pid == run.pid and kill.touches(ended, over) for kill in self.kills)

    def _passed(self, moment: float) -> float:
        """When the store was there again, if it was away at this moment."""
        return max([moment, *(span.to for span in self.outages if span.touches(moment, moment + GRACE))])

    def _holds_of(self, run: Run, life: Life, following: float | None) -> Iterable[Hold]:
        earliest = asked_by(run, life)
        late = self.lease + GRACE
        queued_bound = following if following is not None else self._passed(run.over) + self.stale + GRACE
        if run.how == "retry" and run.end is not None:
            shaken = self.disturbed(run.end - GRACE, run.end + GRACE, run.worker, run.pid)
            queued = min(run.end + self.stale, following or inf, self._kept_from(run.end, life))
            until = run.end if shaken else queued
            yield Hold(
                begin=run.start,
                until=min(until, run.trusted_until) if run.lost_at else until,
                bound=max(queued_bound, run.end + late),
                earliest=earliest,
            )
        elif run.end is not None:
            shaken = self.disturbed(run.end - GRACE, run.end + GRACE, run.worker, run.pid)
            until = min(run.end, run.trusted_until)
            bound = run.end + (late if shaken else GRACE)
            if life.traits["late"] and run.how == "exit":
                bound = queued_bound  # a cold shutdown: the message goes back to the broker
            elif life.traits["late"] and self._killed_after(run):  # its worker queues the claim again
                bound = max(queued_bound, bound) if following is not None else queued_bound + LOST_CHILD
            yield Hold(begin=run.start, until=until, bound=bound, earliest=earliest)
        elif run.died is not None:
            bound = run.died[1] + late
            if run.alone and life.traits["late"]:  # its worker gives the claim back to the queue
                bound = max(queued_bound, bound) if following is not None else queued_bound + LOST_CHILD
            yield Hold(
                begin=run.start, until=min(run.trusted_until, run.died[0]), bound=bound, earliest=earliest
            )
        else:
            yield Hold(begin=run.start, until=run.start, bound=inf, earliest=earliest)
