"""The rules for the registers: what was acknowledged under a fence is never lost, and without a lock it is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.lock_chaos.register import BARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.checker import Findings
    from tests.chaos.history import Event

KEPT = "no write that was acknowledged under a fence is lost"
REFUSED = "who trusts its lease is not refused"
SHOWN = "without a lock updates are lost"
#: Writes without a lock that must have lost some updates.
ENOUGH = 100


def check_registers(events: Sequence[Event], findings: Findings) -> None:
    """Hold the log of each register against its value, and against what its writers were told."""
    for event in events:
        if event["e"] == "refused while trusted":
            findings.wrong(REFUSED, f"{event['name']}: fence {event['fence']} at {event['t']:.3f}")
    findings.counts["register: increments refused for their fence"] += sum(
        event["e"] == "refused" for event in events
    )
    for register in events:
        if register["e"] != "register":
            continue
        told = {
            event["call"]: event["value"]
            for event in events
            if event["e"] == "wrote" and event["register"] == register["register"]
        }
        if register["register"] == BARE:
            _check_bare(register, findings)
        else:
            _check_fenced(register, told, findings)


def _check_fenced(register: Event, told: dict[str, int], findings: Findings) -> None:
    name, log = register["register"], register["log"]
    findings.counts["register: acknowledged increments"] += len(log)
    lost = len(log) - register["value"]
    findings.counts["register: lost updates"] += lost
    if lost:
        findings.wrong(KEPT, f"{name} is {register['value']} after {len(log)} increments")
    for (fence, value, call), (later_fence, later, later_call) in pairwise([[0, 0, ""], *log]):
        if later != value + 1:
            findings.wrong(KEPT, f"{name}: {later} ({later_call}) was written over {value} ({call})")
        if later_fence < fence:
            findings.wrong(KEPT, f"{name}: fence {later_fence} was accepted after {fence}")
    kept = {call: value for _, value, call in log}
    for call, value in told.items():
        if kept.get(call) != value:
            findings.wrong(
                KEPT, f"{name}: {call} was told that {value} is written; the log has {kept.get(call)}"
            )


def _check_bare(register: Event, findings: Findings) -> None:
    written = len(register["log"])
    lost = written - register["value"]
    findings.counts["without a lock: acknowledged increments"] = written
    findings.counts["without a lock: lost updates"] = lost
    if written >= ENOUGH and lost <= 0:
        findings.wrong(SHOWN, f"{written} increments lost nothing")
