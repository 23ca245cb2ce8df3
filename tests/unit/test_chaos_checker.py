"""The checker of the chaos run sees what breaks a rule, and nothing where none is broken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.history import Event, note, read
from tests.unit.histories import (
    CHILD,
    WORKER,
    begun,
    body,
    call,
    checked,
    duplicate,
    freeze,
    kill,
    outage,
    rules,
    state,
)

TWO_BODIES = "no two trusted bodies of one key"
FENCES = "fences grow"
ONE = "one accepted and unfinished task"
WITNESS = "a duplicate has a live witness"
KILLED = "a killed worker's key is free within a lease + 1 s"
FREE = "every key becomes free"
LOST = "no task is lost that Celery would not have lost"
DROPPED = "only a message whose claim passed on is dropped"

ORDERLY: list[Event] = [
    call(1, "A"),
    *body("A", 1.5, 3),
    duplicate(2, "A"),
    duplicate(3.5, "A", "raised"),
    call(5, "B"),
    *body("B", 5.2, 6, "fail"),
    {"e": "claim", "t": 1.0, "to": 3.0, "key": "early:0", "task": "A", "fence": 1500, "running": True},
    {"e": "quiet", "t": 50.0},
    {"e": "free", "t": 50.1, "key": "early:0", "after": 0.1},
    {"e": "probe", "t": 51.0, "key": "early:0", "out": "triggered"},
]


def test_orderly_history_breaks_nothing() -> None:
    findings = checked(ORDERLY)
    assert findings.violations == []
    assert findings.counts["calls"] == 4
    assert findings.counts["bodies"] == 2
    assert findings.counts["witnesses found"] == 2


def test_two_bodies_at_once() -> None:
    assert TWO_BODIES in rules(call(1, "A"), call(2, "B"), body("A", 1.5, 3), body("B", 2.5, 4, pid=12))


def test_one_task_delivered_twice_runs_once_at_a_time() -> None:
    found = rules(
        call(1, "A", kind="late"), body("A", 2, 8, kind="late"), body("A", 7, 9, kind="late", pid=12)
    )
    assert TWO_BODIES in found


def test_overlap_after_loss_of_trust_is_counted() -> None:
    findings = checked(
        call(1, "A"),
        body("A", 1.5, 8, lost=6, last_ok=2),
        freeze(2, 6),
        call(4.5, "B"),
        body("B", 5, 7, pid=12),
    )
    assert findings.violations == []
    assert findings.counts["overlaps after loss of trust"] == 1


def test_frozen_body_that_still_trusts_its_claim() -> None:
    found = rules(call(1, "A"), body("A", 1.5, 8), freeze(2, 6), call(4.5, "B"), body("B", 5, 7, pid=12))
    assert {TWO_BODIES, ONE} <= found


def test_frozen_body_that_was_killed_before_it_thawed_trusted_nothing() -> None:
    found = rules(
        call(1, "A"),
        body("A", 1.5, None),
        freeze(2, 6),
        kill(6),
        call(4.5, "B"),
        body("B", 5, 7, pid=12),
    )
    assert found == set()


def test_claim_lost_for_no_reason() -> None:
    assert "a renewed claim is kept" in rules(call(1, "A"), body("A", 1.5, 8, lost=6))
    assert rules(call(1, "A"), body("A", 1.5, 8, lost=6), {"e": "outage", "t": 3.0, "to": 5.5}) == set()


def test_body_that_was_not_told() -> None:
    events = [call(1, "A"), freeze(2, 6)]
    assert "ensure() agrees with lost" in rules(events, body("A", 1.5, 8, lost=6, told=False))
    assert "a lost claim stays lost" in rules(events, body("A", 1.5, 8, lost=6, regained=True))


@pytest.mark.parametrize("second", [1499, 1500])
def test_fence_that_does_not_grow(second: int) -> None:
    found = rules(call(1, "A"), body("A", 1.5, 3), call(4, "B"), body("B", 5, 6, fence=second))
    assert found == {FENCES}


def test_fence_of_a_body_that_came_too_late_to_trust_it_is_not_compared() -> None:
    kind = "late"
    late = body("A", 9, 10, kind=kind, fence=1500, pid=12, prerun=1.3, first={"lost": True}, last_ok=9)
    found = rules(
        call(1, "A", kind=kind), freeze(1.4, 9), late, call(5, "B", kind=kind), body("B", 6, 7, kind=kind)
    )
    assert found == set()


@pytest.mark.parametrize("second", [1.2, 2.5])
def test_second_is_accepted_while_the_first_is_queued_or_runs(second: float) -> None:
    found = rules(call(1, "A"), body("A", 1.5, 3), call(second, "B"), body("B", 3.5, 4))
    assert found == {ONE}


def test_second_is_accepted_between_two_tries() -> None:
    tries = [*body("A", 1.5, 2, "retry"), *body("A", 4, 5)]
    assert rules(call(1, "A"), tries, call(3, "B"), body("B", 6, 7)) == {ONE}
    assert rules(call(1, "A"), tries, call(5.5, "B"), body("B", 6, 7)) == set()


def test_second_is_accepted_after_the_first_was_killed() -> None:
    parts = [call(1, "A"), *body("A", 1.5, None), kill(2), call(4.5, "B"), *body("B", 5, 6)]
    assert rules(parts) == set()


def test_until_start_frees_the_key_with_the_body() -> None:
    kind = "until_start"
    first = [call(1, "A", kind=kind), *body("A", 3, 8, kind=kind, fence=0)]
    second = body("B", 5, 6, kind=kind, fence=0, pid=12)
    assert rules(first, call(4, "B", kind=kind), second) == set()
    assert rules(first, call(2, "B", kind=kind), second) == {ONE}
    assert rules(first, call(4, "B", kind=kind), second, duplicate(7, "A", kind=kind)) == {WITNESS}


def test_replaced_task() -> None:
    kind = "replace"
    replaced = [call(1, "A", kind=kind), call(2, "B", kind=kind), *body("B", 3, 4, kind=kind)]
    assert rules(replaced, state("A", "IGNORED")) == set()
    running = [call(1, "A", kind=kind), *body("A", 1.5, 4, kind=kind), call(2, "B", kind=kind)]
    assert ONE in rules(running, body("B", 5, 6, kind=kind))


@pytest.mark.parametrize("witness", ["nobody", "A"])
def test_duplicate_without_a_live_witness(witness: str) -> None:
    assert WITNESS in rules(call(1, "A"), body("A", 1.5, 3), duplicate(6, witness))


def test_witness_that_is_a_call_without_an_answer() -> None:
    unanswered = [call(1, "P", "unavailable"), {"e": "outage", "t": 0.5, "to": 3.0}]
    assert rules(unanswered, duplicate(7, "P")) == set()
    assert rules(unanswered, duplicate(9, "P")) == {WITNESS}
    assert rules(unanswered, {"e": "outage", "t": 6.0, "to": 9.0}, duplicate(12, "P")) == set()


def test_cold_shutdown_gives_the_claim_of_a_late_task_back_to_the_queue() -> None:
    for kind, expected in (("early", {WITNESS}), ("late", set())):
        stopped = [call(1, "A", kind=kind), *body("A", 1.5, 2, "exit", kind=kind), state("A", "FAILURE")]
        assert rules(stopped, duplicate(6, "A", kind=kind)) == expected


def test_witness_of_another_key() -> None:
    assert WITNESS in rules(call(1, "A"), body("A", 1.5, 3), duplicate(2, "A", kind="late"))


def test_witness_that_was_killed_lives_for_one_lease_more() -> None:
    killed = [call(1, "A"), *body("A", 1.5, None), kill(2), state("A", "PENDING")]
    assert rules(killed, duplicate(4.5, "A")) == set()
    assert rules(killed, duplicate(5.5, "A")) == {WITNESS}


def test_claim_of_a_killed_body_that_stands_for_too_long() -> None:
    killed = [call(1, "A"), *body("A", 1.5, None), kill(2)]
    claim = {"e": "claim", "t": 1.5, "key": "early:0", "task": "A", "fence": 1500, "running": True}
    assert rules(killed, {**claim, "to": 4.9}) == set()
    assert rules(killed, {**claim, "to": 5.5}) == {KILLED}


@pytest.mark.parametrize("end", [{"e": "blocked"}, {"e": "free", "after": 4.0}])
def test_key_that_does_not_become_free(end: Event) -> None:
    assert rules(ORDERLY, {"t": 60.0, "key": "early:0", **end}) == {FREE}


def test_key_that_cannot_be_claimed_at_the_end() -> None:
    assert rules({"e": "probe", "t": 60.0, "key": "early:0", "out": "unique"})
    assert rules({"e": "never quiet", "t": 60.0, "running": []})


def test_lost_task() -> None:
    assert rules(call(1, "A"), state("A", "PENDING")) == {LOST}
    assert rules(call(1, "A", kind="late"), body("A", 1.5, None, kind="late"), kill(2)) >= set()


def test_early_task_may_go_with_its_worker_and_a_late_one_may_not() -> None:
    for kind, expected in (("early", set()), ("late", {LOST})):
        lost = [
            call(1, "A", kind=kind),
            *body("A", 1.5, None, kind=kind),
            kill(2, CHILD),
            state("A", "PENDING"),
        ]
        assert rules(lost) == expected
    assert rules(call(1, "A"), body("A", 1.5, 1.8, "exit"), kill(1.0, CHILD), state("A", "PENDING")) == {LOST}


def test_one_killed_worker_loses_one_message_of_the_broker() -> None:
    one, two = call(1, "A", kind="late"), call(2, "B", kind="early")
    states = [state("A", "PENDING"), state("B", "PENDING")]
    assert rules(one, two, kill(3), kill(4), states) == set()
    assert rules(one, two, kill(3), states) == {LOST}
    assert rules(one, kill(3, CHILD), states) == {LOST}


def test_dropped_without_a_taker() -> None:
    assert rules(call(1, "A"), state("A", "IGNORED")) == {DROPPED}
    taken = [call(1, "A", kind="late"), *body("A", 1.5, None, kind="late"), kill(2), state("A", "IGNORED")]
    assert rules(taken) == {DROPPED}
    again = {"e": "prerun", "t": 6.5, "task": "A", "pid": 12, "worker": WORKER}
    assert rules(taken, call(5, "B", kind="late"), body("B", 6, 7, kind="late"), again) == set()
    assert rules(taken, call(7.9, "B", kind="late"), body("B", 8, 9, kind="late"), again) == {DROPPED}


def test_body_that_is_nowhere() -> None:
    assert rules(call(1, "A"), body("A", 1.5, None), state("A", "SUCCESS")) == {"a body ends or is killed"}


def test_time_limit_ends_a_body() -> None:
    parts = [call(1, "A", kind="limited"), *body("A", 1.5, None, kind="limited"), state("A", "FAILURE")]
    assert rules(parts, call(4.1, "B", kind="limited"), body("B", 4.5, 5, kind="limited")) == set()
    assert rules(parts, call(2.5, "B", kind="limited"), body("B", 4.8, 5, kind="limited")) == {ONE}


def test_time_limit_ends_a_task_that_waits_for_the_store() -> None:
    waits = {"e": "prerun", "t": 2.0, "task": "A", "pid": CHILD, "worker": WORKER}
    for kind, expected in (("limited", set()), ("early", {ONE})):
        parts = [call(1, "A", kind=kind), {**waits}, state("A", "FAILURE"), call(5, "B", kind=kind)]
        assert rules(parts, body("B", 6, 7, kind=kind)) == expected
    assert rules(
        call(1, "A", kind="limited"), waits, state("A", "FAILURE"), call(3, "B", kind="limited")
    ) >= {ONE}


@pytest.mark.parametrize(
    ("harm", "free_from"),
    [
        ([], None),
        ([outage(1.9, 4.1)], None),
        ([outage(4.5, 5.4)], 5.0),
        ([freeze(4.1, 8.0)], 5.0),
        ([kill(4.1, CHILD)], 2.5),
        ([kill(4.1)], 2.5),
    ],
    ids=["nothing else", "written down twice", "store away again", "frozen", "child killed", "worker killed"],
)
def test_start_without_an_answer_gives_the_claim_back(harm: list[Event], free_from: float | None) -> None:
    """Such a start makes a lease of the claim as soon as the store is back, and nobody renews it."""
    unanswered = [
        call(1, "A"),
        begun(2.5, "A"),
        outage(2.0, 4.0),
        *harm,
        begun(9.0, "A"),
        state("A", "IGNORED"),
    ]

    def found(t: float) -> set[str]:
        return rules(unanswered, call(t, "B"), body("B", t + 0.2, t + 0.5, pid=12))

    if free_from is None:
        assert ONE in found(8.0)
    else:
        assert found(free_from + 0.1) == set()
        assert ONE in found(free_from - 0.1)


@pytest.mark.parametrize(
    ("harm", "free_from"),
    [
        ([], None),
        ([kill(4.5, CHILD)], 3.5),
        ([kill(4.5)], 3.5),
        ([kill(4.5, 12)], None),
        ([freeze(4.5, 9)], 6.0),
    ],
    ids=["nothing else", "child killed", "worker killed", "another one killed", "frozen"],
)
def test_next_try_that_does_not_come_to_its_body(harm: list[Event], free_from: float | None) -> None:
    """Who sees its process die ends its claim; it is not queued any more."""
    tries = [
        call(1, "A"),
        *body("A", 1.5, 2, "retry"),
        outage(3.3, 5.0),
        begun(3.5, "A"),
        *harm,
        begun(12, "A"),
        state("A", "IGNORED"),
    ]

    def found(t: float) -> set[str]:
        return rules(tries, call(t, "B"), body("B", t + 0.2, t + 0.5, pid=12))

    assert ONE in found(3.0)
    if free_from is None:
        assert ONE in found(10.0)
    else:
        assert ONE in found(free_from - 0.1)
        assert found(free_from + 0.1) == set()


@pytest.mark.parametrize("tries", [[], body("A", 1.5, 2, "retry")], ids=["first", "retry"])
@pytest.mark.parametrize(("ended", "explained"), [("FAILURE", True), ("IGNORED", False)])
def test_child_that_is_killed_before_it_can_write_anything(
    tries: list[Event], ended: str, explained: bool
) -> None:
    """Its worker calls the task failed, and ends its claim."""
    received: Event = {"e": "received", "t": 6.0, "task": "A", "worker": WORKER}
    parts = [call(1, "A"), *tries, received, kill(6.1, CHILD), state("A", ended)]
    assert ONE in rules(parts, call(5.9, "B"), body("B", 6.2, 6.5, pid=12))
    assert (ONE in rules(parts, call(6.2, "B"), body("B", 6.4, 6.8, pid=12))) is not explained


def test_start_that_the_store_may_have_heard_before_it_went_away() -> None:
    unanswered = [call(1, "A"), begun(2.5, "A"), outage(2.6, 5.0), begun(9.0, "A"), state("A", "IGNORED")]
    assert ONE in rules(unanswered, call(3.4, "B"), body("B", 5.1, 5.5, pid=12))
    assert rules(unanswered, call(5.0, "B"), body("B", 5.1, 5.5, pid=12)) == set()


def test_child_that_is_killed_long_after_a_delivery_took_nothing_with_it() -> None:
    told_to_wait = [call(1, "A"), begun(2, "A"), state("A", "IGNORED")]
    second = [call(9.5, "B"), *body("B", 9.7, 10, pid=12)]
    assert ONE in rules(told_to_wait, kill(9, CHILD), second)
    assert ONE not in rules(told_to_wait, kill(2.1, CHILD), second)


def test_claim_that_was_given_back_stands_until_its_message_starts() -> None:
    first = [call(1, "A", kind="late"), *body("A", 1.5, None, kind="late"), kill(2), begun(7, "A", pid=12)]
    ended = body("A", 20, 21, kind="late", pid=13)
    assert rules(first, ended, duplicate(15, "A", kind="late")) == {WITNESS}
    assert rules(first, ended, outage(6.9, 9), duplicate(15, "A", kind="late")) == set()
    assert rules(first, ended, outage(6.9, 9), duplicate(23, "A", kind="late")) == {WITNESS}


@pytest.mark.parametrize(
    ("harm", "explained"),
    [(kill(4, CHILD), True), (kill(4, 12), False), (kill(9, CHILD), False), (outage(2.9, 4), False)],
    ids=["before it acknowledged", "another one", "long after", "nobody"],
)
def test_child_that_is_killed_after_its_body(harm: Event, explained: bool) -> None:
    """Its message comes back to the queue, and the claim with it, unless it had been acknowledged."""
    first = [call(1, "A", kind="late"), *body("A", 1.5, 3, kind="late")]
    again = body("A", 20, 21, kind="late", pid=13)
    found = rules(first, harm, duplicate(10, "A", kind="late"), again)
    assert found == (set() if explained else {WITNESS})
    later = begun(3.5, "B", CHILD)  # the child has gone on to another message
    assert rules(first, later, harm, duplicate(10, "A", kind="late"), again) == {WITNESS}


def test_call_that_fails_though_the_store_is_there() -> None:
    assert rules(call(1, "A", "unavailable"))
    assert rules(call(1, "A", "error"))
    assert rules(call(1, "A", "unavailable"), {"e": "outage", "t": 0.9, "to": 2.0}) == set()


def test_history_is_kept_and_a_cut_line_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from tests.chaos import history

    monkeypatch.setenv(history.DIRECTORY, str(tmp_path))
    monkeypatch.setattr(history, "_opened", {})
    note("second", t=2.0)
    note("first", t=1.0, task="A")
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"e": "cut')
    assert read(tmp_path) == [{"e": "first", "t": 1.0, "task": "A"}, {"e": "second", "t": 2.0}]


@pytest.mark.parametrize(("again", "found"), [("exit", set()), ("ok", {FREE})])
def test_message_that_its_first_delivery_acknowledged_for_both(again: str, found: set[str]) -> None:
    """Kombu has nothing to give back to the broker when the second one is stopped: the claim waits until it is stale."""
    about = {"kind": "late"}
    bodies = [body("A", 2, 8, **about), body("A", 8.5, 9, again, **about)]
    free = {"e": "free", "t": 35.0, "key": "late:0", "after": 6.0}
    assert rules(call(1, "A", kind="late"), *bodies, free) == found
