"""The rules that a history must keep (contract, section 4, "Unique"); pure, and tested by histories that break them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.chaos.losses import check_losses
from tests.chaos.model import GRACE, Story

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.history import Event
    from tests.chaos.lives import Life, Run


WITNESS = "a duplicate has a live witness"
#: Seconds within which a caller settles the claim of a call that the store did not answer, once it does.
SETTLED = 5.0


@dataclass
class Findings:
    """What was counted, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    #: Rule and what broke it.
    violations: list[tuple[str, str]] = field(default_factory=list)
    #: Seconds that the claim of a killed body stood, at the longest.
    longest_after_kill: float = 0.0

    def wrong(self, rule: str, what: str) -> None:
        self.violations.append((rule, what))


def check(events: Iterable[Event]) -> Findings:
    """Read a history and hold it against every rule."""
    story, findings = Story(events), Findings()
    _count(story, findings)
    by_key: dict[str, list[Run]] = {}
    for run in story.runs:
        if not story.kinds[run.key.partition(":")[0]]["until_start"]:
            by_key.setdefault(run.key, []).append(run)
    for runs in by_key.values():
        check_bodies(story, runs, findings)
        check_fences(runs, findings)
    check_accepted(story, findings)
    check_witnesses(story, findings)
    check_kills(story, findings)
    check_end(story, findings)
    check_losses(story, findings)
    return findings


def _count(story: Story, findings: Findings) -> None:
    counts = findings.counts
    for call in story.calls:
        counts["calls"] += 1
        counts[f"calls: {call['out']}"] += 1
        if call["out"] == "error":
            findings.wrong("a call fails only where the store is away", f"{call['key']}: {call['error']}")
        if call["out"] == "unavailable" and not story.disturbed(call["t"] - GRACE, call["to"]):
            findings.wrong("a call fails only where the store is away", f"{call['key']}: {call['error']}")
    counts["calls: of those replacing"] = sum(life.replaced is not None for life in story.lives.values())
    for run in story.runs:
        counts["bodies"] += 1
        counts[f"bodies: {run.how or ('died' if run.died else 'vanished')}"] += 1
        counts["bodies: lost their claim"] += run.lost_at is not None or run.lost_at_start
    counts["bodies: longer than a lease"] = sum(run.over - run.start > story.lease for run in story.runs)
    counts["deliveries"] = sum(len(life.received) for life in story.lives.values())


def check_bodies(story: Story, runs: list[Run], findings: Findings) -> None:
    """Two bodies of one key never overlap while both trust their claims; who lost it is told, and for good."""
    for number, run in enumerate(runs):
        if run.end is None and run.died is None:
            findings.wrong("a body ends or is killed", f"{run.key} {run.task} in {run.pid} is nowhere")
        if not run.told:
            findings.wrong("ensure() agrees with lost", f"{run.key} {run.task}")
        if run.regained:
            findings.wrong("a lost claim stays lost", f"{run.key} {run.task}")
        began = run.start - story.lease - GRACE
        if run.lost_at is not None and not story.disturbed(began, run.lost_at, run.worker, run.pid):
            findings.wrong("a renewed claim is kept", f"{run.key} {run.task} lost it at {run.lost_at:.3f}")
        for other in runs[number + 1 :]:
            if other.start >= run.over:
                continue
            if other.start < run.trusted_until and not other.lost_at_start:
                what = f"{run.key}: {run.task} until {run.trusted_until:.3f}, {other.task} from {other.start:.3f}"
                findings.wrong("no two trusted bodies of one key", what)
            else:
                findings.counts["overlaps after loss of trust"] += 1


def check_fences(runs: list[Run], findings: Findings) -> None:
    """Fences grow with every holding of a key."""
    trusted = [run for run in runs if not run.lost_at_start]
    for before, after in pairwise(trusted):
        if after.fence <= before.fence:
            what = f"{before.key}: {before.fence} ({before.task}), then {after.fence} ({after.task})"
            findings.wrong("fences grow", what)
    findings.counts["fences compared"] += max(0, len(trusted) - 1)


def check_accepted(story: Story, findings: Findings) -> None:
    """Nothing is accepted while another accepted task of its key surely holds the claim."""
    by_key: dict[str, list[Life]] = {}
    for life in sorted(story.lives.values(), key=lambda life: float(life.call["t"])):
        by_key.setdefault(life.key, []).append(life)
    for lives in by_key.values():
        stretches = [(life, begin, until) for life in lives for begin, until in _surely_held(life)]
        for life in lives:
            began, ended = life.call["t"], life.call["to"]
            for other, begin, until in stretches:
                if other is not life and begin <= began and ended < until and other.replaced is not life.call:
                    what = f"{life.key}: {life.task} at {began:.3f}, {other.task} held it until {until:.3f}"
                    findings.wrong("one accepted and unfinished task", what)
    findings.counts["acceptances compared"] = len(story.lives)


def _surely_held(life: Life) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for hold in life.holds:
        if joined and joined[-1][1] >= hold.begin:
            joined[-1] = (joined[-1][0], max(joined[-1][1], hold.until))
        else:
            joined.append((hold.begin, hold.until))
    return joined


def check_witnesses(story: Story, findings: Findings) -> None:
    """Every "duplicate" names a task that held the claim at some moment of the call."""
    unknown = {call["task"]: call for call in story.calls if call["out"] == "unavailable"}
    for call in story.calls:
        if call["out"] not in ("unique", "ignored", "raised"):
            continue
        life = story.lives.get(call["witness"])
        if life is None:
            phantom = unknown.get(call["witness"])
            if (
                phantom is not None
                and phantom["key"] == call["key"]
                and call["t"] <= _settled_by(story, phantom)
            ):
                findings.counts["duplicates of a call that got no answer"] += 1
            else:
                why = (
                    "no task has that id"
                    if phantom is None
                    else "the store did not answer that call, long ago"
                )
                findings.wrong(WITNESS, f"{call['key']} at {call['t']:.3f}: {call['witness']!r}, {why}")
            continue
        findings.counts["witnesses found"] += 1
        if life.key != call["key"] or not any(
            hold.earliest <= call["to"] and call["t"] <= hold.bound for hold in life.holds
        ):
            last = max(hold.bound for hold in life.holds)
            what = f"{call['key']} at {call['t']:.3f}: {call['witness']} ({life.key}) was over by {last:.3f}"
            findings.wrong(WITNESS, what)


def _settled_by(story: Story, call: Event) -> float:
    """When the claim of a call that got no answer is gone: its caller settles it once the store is back."""
    until = call["to"]
    for span in story.outages:  # one after the other, where the next began before the claim was settled
        if span.touches(call["t"], until + SETTLED):
            until = max(until, span.to)
    return float(until + SETTLED)


def check_kills(story: Story, findings: Findings) -> None:
    """The running claim of a killed body is gone within a lease and a second."""
    seen = {(claim["task"], claim["fence"]): claim for claim in story.of("claim") if claim["running"]}
    for run in story.runs:
        claim = seen.get((run.task, run.fence))
        if run.end is not None or run.died is None or claim is None:
            continue
        findings.counts["claims of killed bodies watched"] += 1
        stood = claim["to"] - run.died[1]
        findings.longest_after_kill = max(findings.longest_after_kill, stood)
        if stood > story.lease + GRACE:
            findings.wrong("a killed worker's key is free within a lease + 1 s", f"{run.key}: {stood:.3f} s")


def check_end(story: Story, findings: Findings) -> None:
    """When all is quiet, every key is free soon, and can be claimed."""
    for event in story.of("never quiet"):
        findings.wrong("the queue is worked off", f"bodies in {event['running']}")
    for event in story.of("blocked"):
        findings.wrong("every key becomes free", f"{event['key']} is blocked for good")
    for event in story.of("free"):
        if event["after"] <= story.lease + GRACE:
            findings.counts["keys free at the end"] += 1
        elif _orphan_explained(story, event["key"]):
            findings.counts["keys free at the end, after the stale limit"] += 1
        else:
            findings.wrong("every key becomes free", f"{event['key']} only after {event['after']:.1f} s")
    for event in story.of("probe"):
        if event["out"] != "triggered":
            findings.wrong("every key can be claimed at the end", f"{event['key']}: {event['out']}")


def _orphan_explained(story: Story, key: str) -> bool:
    """Tell whether Celery lost a message of that key with its worker: its claim is queued until it is stale."""
    return any(
        life.key == key and (life.state in ("PENDING", "RETRY", "STARTED") or _acknowledged_twice(life))
        for life in story.lives.values()
    )


def _acknowledged_twice(life: Life) -> bool:
    """Tell whether a second delivery was stopped after the first had finished.

    Kombu's deliveries of one message share their tag on Redis: who finishes acknowledges them all, and what a worker
    that shuts down would give back to the broker is not there any more.
    """
    finished = life.finished
    return finished is not None and any(run.how == "exit" and run.over > finished for run in life.runs)
