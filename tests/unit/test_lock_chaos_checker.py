"""The checker of the chaos run of locks sees what breaks a rule, and nothing where none is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lock_chaos.checker import (
    CALLS,
    CAUSE,
    ENDS,
    FENCES,
    FINAL,
    FREE,
    KILLED,
    ORDER,
    TOLD,
    TRUSTED,
    check,
)
from tests.lock_chaos.register import BARE
from tests.lock_chaos.registers import ENOUGH, KEPT, REFUSED, SHOWN

if TYPE_CHECKING:
    from tests.chaos.checker import Findings
    from tests.chaos.history import Event

LEASE = 2.0
LOCK, SEMAPHORE = "lock a:0", "semaphore b:0"
SETUP: Event = {"e": "setup", "t": 0.0, "lease": LEASE, "most": {LOCK: 1, SEMAPHORE: 3}}
END: list[Event] = [
    {"e": "free", "t": 900.0, "name": LOCK, "after": 0.1},
    {"e": "free", "t": 900.0, "name": SEMAPHORE, "after": 0.1},
]


def checked(*parts: Event | list[Event], end: list[Event] = END) -> Findings:
    events = [SETUP, *end]
    for part in parts:
        events += part if isinstance(part, list) else [part]
    return check(events)


def rules(*parts: Event | list[Event]) -> set[str]:
    return {rule for rule, _ in checked(*parts).violations}


def about(pid: int, name: str = LOCK) -> dict[str, Any]:
    return {"name": name, "pid": pid, "worker": pid}


def want(t: float, call: str, pid: int, name: str = LOCK, *, blocking: bool = True) -> Event:
    return {"e": "want", "t": t, **about(pid, name), "call": call, "blocking": blocking, "timeout": None}


def queued(t: float, call: str) -> Event:
    return {"e": "queued", "t": t + 0.1, "call": call}


def asks(t: float, to: float, call: str, pid: int, how: str = "none", **given: Any) -> list[Event]:
    return [want(t, call, pid), queued(t, call), {"e": how, "t": to, "call": call, **given}]


def holds(
    pid: int,
    start: float,
    end: float | None,
    *,
    asked: float | None = None,
    name: str = LOCK,
    fence: int | None = None,
    lost: float | None = None,
    **given: Any,
) -> list[Event]:
    call = f"{pid} at {start}"
    began = start - 0.01 if asked is None else asked
    events = [
        want(began, call, pid, name, blocking=asked is not None),
        *([] if asked is None else [queued(asked, call)]),
        {
            "e": "took",
            "t": start,
            **about(pid, name),
            "call": call,
            "fence": int(start * 1000) if fence is None else fence,
            "lost": given.get("lost_at_start", False),
        },
    ]
    last_ok = given.get("last_ok", lost if lost is not None else end)
    if lost is not None:
        told = given.get("told", True)
        events.append({"e": "lost", "t": lost, "call": call, "last_ok": last_ok, "told": told})
    if end is not None:
        regained = given.get("regained", False)
        over = {"how": "ok", "lost": lost is not None, "last_ok": last_ok, "regained": regained}
        events.append({"e": "gave", "t": end, "call": call, **over})
    return events


def kill(t: float, pid: int) -> Event:
    return {"e": "kill", "t": t, "to": t + 0.01, "worker": pid, "pid": None}


def freeze(t: float, to: float, pid: int) -> Event:
    return {"e": "freeze", "t": t, "to": to, "worker": pid, "pid": None}


def outage(t: float, to: float) -> Event:
    return {"e": "outage", "t": t, "to": to}


def wrote(call: str, value: int, name: str = LOCK) -> Event:
    return {"e": "wrote", "t": 5.0, "register": name, "call": call, "fence": 1, "value": value}


def register(log: list[list[Any]], value: int | None = None, name: str = LOCK) -> Event:
    return {
        "e": "register",
        "t": 901.0,
        "register": name,
        "value": len(log) if value is None else value,
        "log": log,
    }


def test_orderly_history_breaks_nothing() -> None:
    findings = checked(
        holds(1, 1, 3),
        holds(2, 3.01, 4, asked=1.5),
        asks(3.2, 3.3, "other", 3),
        [event for pid in (1, 2, 3) for event in holds(pid, 5, 6, name=SEMAPHORE, fence=pid)],
        wrote("x", 1),
        register([[1000, 1, "x"], [3010, 2, "y"]]),
    )
    assert findings.violations == []
    assert findings.counts["holdings"] == 5
    assert findings.counts["names free at the end"] == 2


def test_two_hold_a_lock() -> None:
    assert rules(holds(1, 1, 3), holds(2, 2.9, 4)) == {TRUSTED}


def test_four_hold_one_of_three() -> None:
    three = [event for pid in (1, 2, 3) for event in holds(pid, pid, 9, name=SEMAPHORE)]
    assert rules(three) == set()
    assert rules(three, holds(4, 8.9, 10, name=SEMAPHORE)) == {TRUSTED}


def test_one_who_trusts_it_no_more_does_not_count() -> None:
    findings = checked(holds(1, 1, 9, lost=7, last_ok=2), freeze(2, 7, 1), holds(2, 4.5, 8))
    assert findings.violations == []
    assert findings.counts["overlaps after loss of trust"] == 1


def test_one_who_was_frozen_and_still_trusts_it() -> None:
    assert TRUSTED in rules(holds(1, 1, 9), freeze(2, 7, 1), holds(2, 4.5, 6))


def test_killed_holder_trusted_it_until_it_was_frozen_or_killed() -> None:
    assert rules(holds(1, 1, None), freeze(2, 6, 1), kill(6, 1), holds(2, 4.5, 7)) == set()
    assert rules(holds(1, 1, None), kill(6, 1), holds(2, 4.5, 7)) == {TRUSTED}


def test_holder_that_vanished() -> None:
    assert rules(holds(1, 1, None)) == {ENDS}
    assert ENDS in rules(want(1, "x", 1))
    assert rules(want(1, "x", 1), kill(2, 1)) == set()
    assert ENDS in rules({"e": "stuck", "t": 800.0, "pid": 1, "log": ""})


@pytest.mark.parametrize("fence", [999, 1000])
def test_fence_that_does_not_grow(fence: int) -> None:
    assert rules(holds(1, 1, 2, fence=1000), holds(2, 3, 4, fence=fence)) == {FENCES}


def test_fence_of_a_semaphore() -> None:
    first = holds(1, 1, 9, name=SEMAPHORE, fence=7)
    assert rules(first, holds(2, 2, 3, name=SEMAPHORE, fence=6)) == {FENCES}
    assert rules(first, holds(2, 2, 3, name=SEMAPHORE, fence=7)) == {FENCES}
    # Both asked at once: which of them wrote it down first says nothing.
    assert rules(first, holds(2, 2, 3, name=SEMAPHORE, fence=6, asked=0.9)) == set()


def test_fence_of_one_who_came_too_late_to_trust_it_is_not_compared() -> None:
    late = holds(1, 9, 10, asked=1, fence=1000, lost_at_start=True)
    assert rules(late, freeze(1.1, 9, 1), holds(2, 5, 6)) == set()


def test_lost_for_no_reason() -> None:
    lost = holds(1, 1, 20, lost=15)
    assert rules(lost) == {CAUSE}
    assert rules(lost, freeze(12, 14.9, 2)) == {CAUSE}
    assert rules(lost, freeze(12, 14.9, 1)) == set()
    assert rules(lost, outage(12, 14.9)) == set()
    assert rules(lost, outage(2, 3)) == {CAUSE}


def test_holder_that_was_not_told() -> None:
    assert rules(holds(1, 1, 9, lost=6, told=False), freeze(3, 6, 1)) == {TOLD}
    assert rules(holds(1, 1, 9, lost=6, regained=True), freeze(3, 6, 1)) == {FINAL}


def test_next_one_is_late_after_a_kill() -> None:
    killed = [*holds(1, 1, None), kill(2, 1)]
    assert rules(killed, holds(2, 4.9, 6, asked=1.5)) == set()
    assert rules(killed, holds(2, 5.1, 6, asked=1.5)) == {KILLED}
    assert rules(killed, asks(1.5, 5.1, "x", 2)) == {KILLED}
    assert checked(killed, holds(2, 4.5, 6, asked=1.5)).longest_after_kill == pytest.approx(2.49)


def test_next_one_is_late_for_a_reason() -> None:
    killed, late = [*holds(1, 1, None), kill(2, 1)], holds(2, 5.1, 6, asked=1.5)
    assert rules(killed, late, outage(3, 3.5)) == set()
    assert rules(killed, late, freeze(3, 3.5, 2)) == set()
    assert rules(killed, late, want(1.6, "x", 3), queued(1.6, "x"), kill(3, 3)) == set()
    assert rules(killed, holds(2, 9, 10, asked=2.5)) == set()  # nobody waited when it was killed
    assert rules(killed, holds(2, 9, 10)) == set()
    assert rules(killed, asks(1.5, 3, "x", 2)) == set()  # not for so long


def test_somebody_is_overtaken() -> None:
    first = holds(1, 1, 5)
    assert rules(first, holds(2, 7, 8, asked=2), holds(3, 5.01, 6.9, asked=3)) == {ORDER}
    assert rules(first, asks(2, 7, "x", 2), holds(3, 5.01, 6.9, asked=3)) == {ORDER}
    assert rules(first, asks(2, 7, "x", 2), holds(3, 5.01, 6.9)) == {ORDER}  # who does not wait, neither
    assert rules(first, holds(2, 5.01, 6, asked=2), holds(3, 6.1, 7, asked=3)) == set()
    assert (
        rules(first, holds(2, 7, 8, asked=2), holds(3, 5.01, 6.9, asked=2.05)) == set()
    )  # as good as at once
    # It has no place yet.
    assert rules(first, want(2, "x", 2), kill(9, 2), holds(3, 5.01, 6.9, asked=3)) == set()


def test_somebody_is_overtaken_for_a_reason() -> None:
    events = [*holds(1, 1, 5), *holds(2, 7, 8, asked=2), *holds(3, 5.01, 6.9, asked=3)]
    findings = checked(events, freeze(3, 4, 2))
    assert findings.violations == []
    assert findings.counts["overtaken: around harm"] == 1


def test_call_that_fails() -> None:
    def failed(unavailable: bool) -> list[Event]:
        return asks(3, 4, "x", 1, "failed", unavailable=unavailable, error="E")

    assert rules(failed(True)) == {CALLS}
    assert rules(failed(True), outage(2.5, 3.5)) == set()
    assert rules(failed(False), outage(2.5, 3.5)) == {CALLS}


def test_name_that_stays_taken() -> None:
    assert {rule for rule, _ in checked(end=END[:1]).violations} == {FREE}
    late = [END[0], {**END[1], "after": 3.5}]
    assert {rule for rule, _ in checked(end=late).violations} == {FREE}


def test_acknowledged_write_that_is_lost() -> None:
    assert rules(register([[1, 1, "x"], [2, 1, "y"]], value=1)) == {KEPT}
    assert rules(register([[1, 1, "x"], [2, 2, "y"]], value=1)) == {KEPT}
    assert rules(wrote("x", 1), register([[2, 1, "y"]])) == {KEPT}


def test_fence_that_was_accepted_after_a_larger_one() -> None:
    assert rules(register([[2, 1, "x"], [1, 2, "y"]])) == {KEPT}


def test_holder_that_trusts_its_lease_is_refused() -> None:
    refused = {"e": "refused while trusted", "t": 5.0, **about(1), "call": "x", "fence": 7}
    assert rules(refused) == {REFUSED}


def test_register_without_a_lock_must_lose_updates() -> None:
    log = [[0, number + 1, str(number)] for number in range(ENOUGH)]
    assert rules(register(log, name=BARE)) == {SHOWN}
    findings = checked(register(log, value=ENOUGH - 7, name=BARE))
    assert findings.violations == []
    assert findings.counts["without a lock: lost updates"] == 7
