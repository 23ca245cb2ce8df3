"""The rules that a history of locks must keep (contract, section 4, "Locks"); pure, and tested by histories that break them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from tests.chaos.checker import Findings
from tests.lock_chaos.model import GRACE, Locks, by_name
from tests.lock_chaos.registers import check_registers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.chaos.history import Event
    from tests.lock_chaos.model import Call, Run

CALLS = "a call fails only with StoreUnavailable, around an outage"
ENDS = "a call and a holding end, or their process is killed"
TRUSTED = "no more trusted holdings of a name than may be"
FENCES = "fences grow"
TOLD = "ensure() agrees with lost"
FINAL = "a lost lease stays lost"
CAUSE = "a lease is not lost without a cause"
KILLED = "the next one holds it within a lease + 1 s of a kill"
ORDER = "who waits is served in order"
FREE = "every name becomes free"
#: Seconds by which somebody must have been served earlier to have overtaken: writing it down may take longer.
SLACK = 0.25


def check(events: Iterable[Event]) -> Findings:
    """Read a history and hold it against every rule."""
    locks, findings = Locks(events), Findings()
    check_calls(locks, findings)
    for name, (holdings, calls) in by_name(locks).items():
        check_holdings(locks, holdings, findings)
        check_trusted(name, locks.most[name], holdings, findings)
        check_fences(locks, holdings, findings)
        check_kills(locks, name, holdings, calls, findings)
        check_order(locks, calls, findings)
    check_registers(locks.events, findings)
    check_end(locks, findings)
    return findings


def check_calls(locks: Locks, findings: Findings) -> None:
    for call in locks.calls.values():
        findings.counts["calls"] += 1
        findings.counts[f"calls: {call.how or 'killed'}"] += 1
        what = f"{call.name} in {call.pid} at {call.begin:.3f}: {call.error}"
        if not call.how and call.end == inf:
            findings.wrong(ENDS, what)
        if call.how == "failed" and not (
            call.unavailable and locks.disturbed(call.begin - GRACE, call.end, call.worker, call.pid)
        ):
            findings.wrong(CALLS, what)


def check_holdings(locks: Locks, holdings: Sequence[Run], findings: Findings) -> None:
    """Each by itself: it ends, and it is lost for a reason, for good."""
    for holding in holdings:
        findings.counts["holdings"] += 1
        how = holding.how or ("killed" if holding.died else "vanished")
        findings.counts[f"holdings: {how}"] += 1
        what = f"{holding.key} in {holding.pid} of {holding.worker} from {holding.start:.3f}"
        if holding.end is None and holding.died is None:
            findings.wrong(ENDS, what)
        if holding.over - holding.start > locks.lease and holding.end is not None:
            findings.counts["holdings: longer than a lease"] += 1
        if holding.regained:
            findings.wrong(FINAL, what)
        if not holding.told:
            findings.wrong(TOLD, what)
        lost_at = holding.start if holding.lost_at_start else holding.lost_at
        if lost_at is None:
            continue
        findings.counts["holdings: lost"] += 1
        # It was renewed, or taken, within a lease before; what kept the next renewal from the store began before that.
        began = lost_at - 2 * locks.lease - GRACE
        if not locks.disturbed(began, lost_at, holding.worker, holding.pid):
            findings.wrong(CAUSE, f"{what}, lost at {lost_at:.3f}")


def check_trusted(name: str, most: int, holdings: Sequence[Run], findings: Findings) -> None:
    """Never more at a time than may hold it, of those who believe that they do."""
    there: list[Run] = []
    for holding in holdings:
        if holding.lost_at_start:
            continue
        others = [other for other in there if other.over > holding.start]
        trusting = [other for other in others if other.trusted_until > holding.start]
        findings.counts["holdings compared"] += 1
        findings.counts["overlaps after loss of trust"] += len(others) - len(trusting)
        if len(trusting) >= most:
            since = ", ".join(f"{other.fence} since {other.start:.3f} in {other.pid}" for other in trusting)
            findings.wrong(
                TRUSTED, f"{name}: {holding.fence} at {holding.start:.3f} in {holding.pid} beside {since}"
            )
        there = [*others, holding]


def check_fences(locks: Locks, holdings: Sequence[Run], findings: Findings) -> None:
    """Who asked when another one held it already, or after that, has a larger fence; no two have the same."""
    trusted = [holding for holding in holdings if not holding.lost_at_start]
    if trusted and locks.most[trusted[0].key] == 1:
        for before, after in pairwise(trusted):
            _compare(before, after, findings)
    else:
        _compare_with_asked(locks, trusted, findings)
    fences = sorted(holdings, key=lambda holding: holding.fence)
    for one, other in pairwise(fences):
        if one.fence == other.fence:
            findings.wrong(FENCES, f"{one.key}: {one.fence} twice, at {one.start:.3f} and {other.start:.3f}")


def _compare_with_asked(locks: Locks, holdings: Sequence[Run], findings: Findings) -> None:
    starts = [holding.start for holding in holdings]
    highest: list[Run] = []
    for holding in holdings:
        highest.append(max([holding, *highest[-1:]], key=lambda one: one.fence))
    for holding in holdings:
        call = locks.calls.get(holding.task)
        before = bisect_right(starts, holding.start if call is None else call.begin)
        if before and highest[before - 1] is not holding:
            _compare(highest[before - 1], holding, findings)


def _compare(before: Run, after: Run, findings: Findings) -> None:
    findings.counts["fences compared"] += 1
    if after.fence <= before.fence:
        what = f"{before.fence} at {before.start:.3f}, then {after.fence} at {after.start:.3f}"
        findings.wrong(FENCES, f"{before.key}: {what}")


def check_kills(
    locks: Locks, name: str, holdings: Sequence[Run], calls: Sequence[Call], findings: Findings
) -> None:
    """Where a holder is killed and somebody waits, the next one holds it soon."""
    starts = [holding.start for holding in holdings]
    for holding in holdings:
        if holding.end is not None or holding.died is None:
            continue
        died = holding.died[1]
        until = died + locks.lease + GRACE
        waiting = [call for call in calls if call.queued <= died < call.end]
        if not waiting or locks.outage(died - GRACE, until):
            continue
        number = bisect_right(starts, died)
        taken = starts[number] if number < len(starts) else inf
        seen = min(taken, until)
        # Who dies or freezes while it is next in the queue keeps the others waiting for the time of a place there.
        if any(locks.harmed(died - GRACE, seen, call.worker, call.pid) for call in waiting):
            findings.counts["kills of a holder: somebody who waited was harmed too"] += 1
            continue
        patient = [call for call in waiting if call.end > until or call.how == "took"]
        if taken > until and not patient:
            continue  # nobody waited for that long
        findings.counts["kills of a holder while somebody waited"] += 1
        findings.longest_after_kill = max(findings.longest_after_kill, min(taken, until + GRACE) - died)
        if taken > until:
            findings.wrong(KILLED, f"{name}: killed at {died:.3f}, held again at {taken:.3f}")


def check_order(locks: Locks, calls: Sequence[Call], findings: Findings) -> None:
    """Nobody who asks later is served before somebody who waits, where no harm came to the latter."""
    for number, waiter in enumerate(calls):
        if waiter.queued + SLACK > waiter.end:
            continue
        findings.counts["waits compared"] += 1
        for other in calls[number + 1 :]:
            if other.begin >= waiter.end:
                break
            if other.how != "took" or other.begin < waiter.queued or other.end > waiter.end - SLACK:
                continue
            if locks.disturbed(waiter.queued - GRACE, other.end, waiter.worker, waiter.pid):
                findings.counts["overtaken: around harm"] += 1
            else:
                what = f"{other} asked at {other.begin:.3f} and held it at {other.end:.3f}"
                findings.wrong(ORDER, f"{waiter.name}: {waiter} waited from {waiter.queued:.3f}, {what}")


def check_end(locks: Locks, findings: Findings) -> None:
    """When all is quiet, every name is free soon, and can be held."""
    for event in locks.of("stuck"):
        findings.wrong(ENDS, f"process {event['pid']} does not stop: {event['log']}")
    free = {event["name"]: event["after"] for event in locks.of("free")}
    for name in locks.most:
        after = free.get(name, inf)
        findings.counts["names free at the end"] += after <= locks.lease + GRACE
        if after > locks.lease + GRACE:
            findings.wrong(FREE, f"{name} only after {after:.1f} s")
