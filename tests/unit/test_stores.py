"""The contract of `ClaimStore`, held by every store."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.stores.base import Answer, Ask, Holding, Unsent, Verdict

if TYPE_CHECKING:
    from django_celery_extensions.stores.base import ClaimStore
    from tests.unit.stores import Backend

FREE, HELD, BUSY, WINDOW = Verdict.FREE, Verdict.HELD, Verdict.BUSY, Verdict.WINDOW


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


def of(task_id: str = "A", token: str = "", name: str = "n") -> Holding:
    return Holding(name=name, task_id=task_id, token=token)


def held_by(store: ClaimStore) -> tuple[str, str] | None:
    holding = store.holding("n")
    return None if holding is None else (holding.task_id, holding.token)


# admit


def test_first_is_admitted_and_holds_the_claim(store: ClaimStore) -> None:
    answer = store.admit(ask("A"))
    assert (answer.verdict, answer.task_id) == (FREE, "")
    assert answer.fence > 0
    assert store.holding("n") == Holding(name="n", task_id="A", token="", fence=answer.fence)


def test_second_is_told_who_holds_it(store: ClaimStore) -> None:
    store.admit(ask("A"))
    for _ in range(2):
        assert store.admit(ask("B")) == Answer(verdict=HELD, task_id="A")
    assert held_by(store) == ("A", "")


def test_names_do_not_meet(store: ClaimStore) -> None:
    store.admit(ask("A"))
    assert store.admit(ask("B", name="n2")).verdict is FREE
    assert store.admit(ask("B", name="N")).verdict is FREE
    assert store.holding("nn") is None


def test_same_task_is_admitted_again(store: ClaimStore) -> None:
    first = store.admit(ask("A"))
    second = store.admit(ask("A"))
    assert second.verdict is FREE
    assert second.fence > first.fence
    assert held_by(store) == ("A", "")


def test_running_task_that_is_queued_again_keeps_the_claim(store: ClaimStore) -> None:
    running = store.start(ask("A", "t"))
    for _ in range(2):
        answer = store.admit(ask("A", proof="t"))
        assert answer.verdict is FREE
        assert answer.fence > running.fence
        assert held_by(store) == ("A", "")
    assert store.admit(ask("B")).verdict is HELD


@pytest.mark.parametrize(("task_id", "proof"), [("A", ""), ("A", "u"), ("B", "t"), ("B", "")])
def test_running_claim_goes_back_to_the_queue_by_its_token_only(
    store: ClaimStore, task_id: str, proof: str
) -> None:
    store.start(ask("A", "t"))
    for _ in range(2):
        assert store.admit(ask(task_id, proof=proof)) == Answer(verdict=HELD, task_id="A")
        assert held_by(store) == ("A", "t")


def test_nothing_is_claimed_where_no_claim_is_wanted(store: ClaimStore) -> None:
    assert store.admit(ask("A", claim=None)) == Answer(verdict=FREE)
    assert store.admit(ask("A", claim=None, window=True)).verdict is FREE
    assert store.start(ask("A", "t", claim=None)).verdict is FREE
    assert store.holding("n") is None


@pytest.mark.parametrize("times", [1, 2])
def test_replace_takes_a_queued_claim(store: ClaimStore, times: int) -> None:
    first = store.admit(ask("A"))
    for _ in range(times):
        answer = store.admit(ask("B", replace=True))
        assert answer.verdict is FREE
        assert answer.fence > first.fence
    assert held_by(store) == ("B", "")
    assert store.start(ask("A", "t")) == Answer(verdict=HELD, task_id="B")
    assert held_by(store) == ("B", "")


def test_replaced_task_never_starts_though_the_newer_one_has_ended(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.admit(ask("B", replace=True))
    store.start(ask("B", "t"))
    store.settle(of("B", "t"))
    for _ in range(2):
        assert store.start(ask("A", "u")) == Answer(verdict=HELD, task_id="B")
    assert store.holding("n") is None
    assert store.admit(ask("C")).verdict is FREE
    assert store.start(ask("C", "v")).verdict is FREE


def test_replaced_task_stays_replaced_as_long_as_its_own_claim_would_have_lasted(backend: Backend) -> None:
    """A debounced call that was to come late: the newer claim, which ends sooner, must not take the mark along."""
    store = backend.store
    store.admit(ask("A", claim=60))
    store.admit(ask("B", claim=backend.shortest, replace=True))
    backend.let_end()
    assert store.holding("n") is None
    for _ in range(2):
        assert store.start(ask("A", "t")) == Answer(verdict=HELD, task_id="B")


def test_replaced_task_that_must_not_be_dropped_follows_the_last_one_and_then_runs(store: ClaimStore) -> None:
    """Naive: it waits for the one that took its claim, which was replaced itself and never has a result."""
    store.admit(ask("A"))
    store.admit(ask("B", replace=True))
    store.admit(ask("C", replace=True))
    assert store.start(ask("A", "t")) == Answer(verdict=HELD, task_id="C")
    store.start(ask("C", "u"))
    assert store.start(ask("A", "t", follows="C")) == Answer(verdict=HELD, task_id="C")
    store.settle(of("C", "u"))
    for follows in ("", "B"):
        assert store.start(ask("A", "t", follows=follows)) == Answer(verdict=HELD, task_id="C")
    store.admit(ask("D"))
    assert store.start(ask("A", "t", follows="C")) == Answer(verdict=HELD, task_id="D")
    store.settle(of("D"))
    assert store.start(ask("A", "t", follows="C")).verdict is FREE
    assert held_by(store) == ("A", "t")


def test_replaced_task_has_its_claim_again_when_the_newer_one_is_not_sent(store: ClaimStore) -> None:
    before = store.admit(ask("A")).fence
    store.admit(ask("B", replace=True))
    store.admit(ask("C", replace=True))
    unsent = [
        Unsent(name="n", task_id=task, replaced=old, stale=60) for task, old in (("C", "B"), ("B", "A"))
    ]
    assert store.withdraw_many(unsent) == [True, True]
    assert held_by(store) == ("A", "")
    assert store.start(ask("A", "t")).fence > before
    assert store.withdraw_many(unsent) == [False, False]
    assert held_by(store) == ("A", "t")


def test_claim_is_not_handed_back_to_a_task_that_was_told_it_may_not_start(store: ClaimStore) -> None:
    """Naive: its message has been dropped, so that nobody would run, and nobody be admitted."""
    store.admit(ask("A"))
    store.admit(ask("B", replace=True))
    assert store.start(ask("A", "t")).verdict is HELD
    assert store.withdraw_many([Unsent(name="n", task_id="B", replaced="A", stale=60)]) == [True]
    assert store.holding("n") is None


def test_claim_that_a_third_task_has_by_then_is_not_handed_back(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.admit(ask("B", replace=True))
    store.admit(ask("C", replace=True))
    assert store.withdraw_many([Unsent(name="n", task_id="B", replaced="A", stale=60)]) == [False]
    assert held_by(store) == ("C", "")


def test_admitted_task_is_told_that_it_was_queued_already(store: ClaimStore) -> None:
    assert store.admit(ask("A")).task_id == ""
    assert store.admit(ask("A")).task_id == "A"


def test_replace_never_takes_a_running_claim(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.start(ask("A", "t"))
    assert store.admit(ask("B", replace=True)) == Answer(verdict=HELD, task_id="A")
    assert held_by(store) == ("A", "t")


def test_replace_of_nothing_is_a_plain_claim(store: ClaimStore) -> None:
    assert store.admit(ask("B", replace=True)).verdict is FREE
    assert held_by(store) == ("B", "")


# start


def test_queued_task_starts_with_its_token(store: ClaimStore) -> None:
    queued = store.admit(ask("A"))
    started = store.start(ask("A", "t"))
    assert started.verdict is FREE
    assert started.fence > queued.fence
    assert store.holding("n") == Holding(name="n", task_id="A", token="t", fence=started.fence)


def test_start_may_be_repeated(store: ClaimStore) -> None:
    store.admit(ask("A"))
    for _ in range(3):
        assert store.start(ask("A", "t")).verdict is FREE
        assert held_by(store) == ("A", "t")


def test_second_execution_of_the_same_task_waits(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.start(ask("A", "t"))
    for _ in range(2):
        assert store.start(ask("A", "u")) == Answer(verdict=BUSY, task_id="A")
    assert held_by(store) == ("A", "t")


def test_start_of_a_task_that_lost_its_claim_is_refused(store: ClaimStore) -> None:
    store.admit(ask("A"))
    assert store.start(ask("B", "t")) == Answer(verdict=HELD, task_id="A")
    store.start(ask("A", "t"))
    assert store.start(ask("B", "t")) == Answer(verdict=HELD, task_id="A"), (
        "a token is nothing without its task"
    )


def test_missing_claim_is_made_at_the_start(store: ClaimStore) -> None:
    assert store.start(ask("A", "t")).verdict is FREE
    assert held_by(store) == ("A", "t")
    assert store.admit(ask("B")) == Answer(verdict=HELD, task_id="A")


@pytest.mark.parametrize("queued", [True, False])
def test_until_start_ends_the_claim_with_the_start(store: ClaimStore, *, queued: bool) -> None:
    if queued:
        store.admit(ask("A"))
    for _ in range(2):
        assert store.start(ask("A", "t", until_start=True)).verdict is FREE
        assert store.holding("n") is None
    assert store.admit(ask("B")).verdict is FREE


def test_until_start_leaves_the_claim_of_another_alone(store: ClaimStore) -> None:
    store.admit(ask("B"))
    assert store.start(ask("A", "t", until_start=True)) == Answer(verdict=HELD, task_id="B")
    assert held_by(store) == ("B", "")


# settle


def test_owner_ends_its_claim_once_and_for_all(store: ClaimStore) -> None:
    store.start(ask("A", "t"))
    assert store.settle(of("A", "t")) is True
    assert store.settle(of("A", "t")) is False
    assert store.holding("n") is None
    assert store.admit(ask("B")).verdict is FREE


@pytest.mark.parametrize("holding", [of("A", "u"), of("A", ""), of("B", "t"), of("", ""), of("B", "")])
def test_only_the_owner_ends_a_running_claim(store: ClaimStore, holding: Holding) -> None:
    store.start(ask("A", "t"))
    assert store.settle(holding) is False
    assert held_by(store) == ("A", "t")


@pytest.mark.parametrize("holding", [of("A", "t"), of("B", ""), of("", "")])
def test_only_the_queued_task_ends_a_queued_claim(store: ClaimStore, holding: Holding) -> None:
    store.admit(ask("A"))
    assert store.settle(holding) is False
    assert held_by(store) == ("A", "")
    assert store.settle(of("A", "")) is True


def test_settling_nothing_makes_nothing(store: ClaimStore) -> None:
    assert store.settle(of("A", "t")) is False
    assert store.holding("n") is None


# lifetimes


def test_claim_that_is_not_renewed_ends_by_itself(backend: Backend) -> None:
    store = backend.store
    store.admit(ask("A", claim=backend.shortest))
    store.admit(ask("A", name="running"))
    store.start(ask("A", "t", name="running", claim=backend.shortest))
    backend.let_end()
    for name in ("n", "running"):
        assert store.holding(name) is None
        assert store.admit(ask("B", name=name)).verdict is FREE


def test_start_gives_the_claim_a_life_of_its_own(backend: Backend) -> None:
    store = backend.store
    store.admit(ask("A", claim=600))
    store.start(ask("A", "t", claim=backend.shortest))
    backend.let_end()
    assert store.holding("n") is None, "the lease counts, not the stale limit"


def test_window_closes_by_itself(backend: Backend) -> None:
    store = backend.store
    store.settle(of("A", "t"), backend.shortest)
    backend.let_end()
    assert store.admit(ask("B", window=True)).verdict is FREE


def test_renewed_claim_outlives_its_first_life(backend: Backend) -> None:
    store = backend.store
    store.start(ask("B", "u", name="unrenewed", claim=backend.shortest))
    renewed = [False]
    for _ in range(10):  # a machine that stands still for the length of the life is no error of the store
        began = monotonic()
        store.start(ask("A", "t", claim=backend.shortest))
        renewed = store.renew([(of("A", "t"), 60)])
        if renewed == [True] or monotonic() < began + backend.shortest:
            break
    assert renewed == [True]
    backend.let_end()
    assert store.holding("unrenewed") is None
    assert held_by(store) == ("A", "t")


def test_renewal_may_shorten_a_life(backend: Backend) -> None:
    store = backend.store
    store.start(ask("A", "t", claim=600))
    store.renew([(of("A", "t"), backend.shortest)])
    backend.let_end()
    assert store.holding("n") is None


def test_each_renewal_is_answered_for_itself(store: ClaimStore) -> None:
    store.start(ask("A", "t"))
    store.start(ask("B", "u", name="b"))
    store.admit(ask("C", name="queued"))
    lives = [
        (of("A", "t"), 60.0),
        (of("A", "other"), 60.0),
        (of("B", "t", "b"), 60.0),
        (of("B", "u", "b"), 60.0),
        (of("C", "t", "queued"), 60.0),
        (of("X", "t", "nothing"), 60.0),
    ]
    for _ in range(2):
        assert store.renew(lives) == [True, False, False, True, False, False]
    assert store.holding("nothing") is None
    assert store.renew([]) == []


def test_renewal_keeps_the_fence(store: ClaimStore) -> None:
    fence = store.start(ask("A", "t")).fence
    store.renew([(of("A", "t"), 60)])
    holding = store.holding("n")
    assert holding is not None
    assert holding.fence == fence


def test_fence_grows_with_every_holding(store: ClaimStore) -> None:
    fences = []
    for number in range(20):
        task_id = str(number)
        fences += [store.admit(ask(task_id)).fence, store.start(ask(task_id, "t")).fence]
        if number % 2:
            store.settle(of(task_id, "t"))
        else:
            store.forget("n")
    assert fences == sorted(set(fences))
    assert fences[0] > 1_700_000_000_000_000, "microseconds: it grows even after the store lost everything"


def test_patient_start_leaves_the_claim_of_a_retry_alone(store: ClaimStore) -> None:
    """A second delivery of a message must not run on the claim that the first one gave to its retry."""
    store.admit(ask("A"))
    assert store.start(ask("A", "first")).task_id == "A"
    assert store.start(ask("A", "second", patient=True)).verdict is BUSY
    store.admit(ask("A", proof="first"))
    assert store.start(ask("A", "second", patient=True)).verdict is BUSY, "it is the retry's"
    assert held_by(store) == ("A", "")
    assert store.start(ask("A", "second")).verdict is FREE


# an execution that is told to be lost


@pytest.mark.parametrize("start", [False, True])
def test_late_news_of_an_execution_that_gave_its_claim_back_end_no_claim(
    store: ClaimStore, *, start: bool
) -> None:
    """Naive: only the last one is known that gave it back. The worker tells of a lost child when it comes to it."""
    store.admit(ask("A"))
    tokens = ["first", "retry", "second-retry"]
    for token in tokens[:2]:
        store.start(ask("A", token))
        store.admit(ask("A", proof=token))
    store.start(ask("A", tokens[2]))
    store.requeue(of("A", tokens[2]), 60)
    if start:
        store.start(ask("A", "last"))
    for token in tokens:
        assert not store.settle(of("A", token), lost=True)
    assert held_by(store) == ("A", "last" if start else "")
    if not start:
        assert store.settle(of("A", "last"), lost=True), "it may not have come to its start"


def test_claim_forgets_who_gave_back_an_earlier_one(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.start(ask("A", "first"))
    store.admit(ask("A", proof="first"))
    store.settle(of("A"))
    store.admit(ask("A"))
    assert store.settle(of("A", "first"), lost=True)


# a start without an answer


def test_claim_goes_back_to_the_queue_from_the_execution_that_may_have_started(backend: Backend) -> None:
    store = backend.store
    store.admit(ask("A"))
    fence = store.start(ask("A", "t", claim=backend.shortest)).fence
    for _ in range(2):
        assert store.requeue(of("A", "t"), 60)
    store.start(ask("B", "u", name="other", claim=backend.shortest))
    backend.let_end()
    assert store.holding("other") is None
    assert held_by(store) == ("A", "")
    assert store.start(ask("A", "sent again")).fence > fence


@pytest.mark.parametrize("token", ["", "sent again"])
def test_claim_that_is_not_that_execution_s_stays_as_it_is(store: ClaimStore, token: str) -> None:
    store.admit(ask("A"))
    if token:
        store.start(ask("A", token))
    assert not store.requeue(of("A", "t"), 60)
    assert not store.requeue(of("B", token), 60)
    assert held_by(store) == ("A", token)


def test_claim_that_has_ended_is_not_made_again(store: ClaimStore) -> None:
    store.start(ask("A", "t"))
    store.settle(of("A", "t"))
    assert not store.requeue(of("A", "t"), 60)
    assert store.holding("n") is None


# many at once


def test_many_are_admitted_one_after_the_other(store: ClaimStore) -> None:
    store.admit(ask("X", name="taken"))
    store.open_window("ignored", "W", 60)
    asks = [
        ask("A", name="a"),
        ask("B", name="taken"),
        ask("C", name="a"),
        ask("D", name="ignored", window=True),
        ask("E", name="plain", claim=None),
        ask("F", name="a", replace=True),
        ask("G", name="g"),
    ]
    answers = store.admit_many(asks)
    assert [(answer.verdict, answer.task_id) for answer in answers] == [
        (FREE, ""),
        (HELD, "X"),
        (HELD, "A"),
        (WINDOW, "W"),
        (FREE, ""),
        (FREE, "A"),
        (FREE, ""),
    ]
    assert [answer.fence > 0 for answer in answers] == [True, False, False, False, False, True, True]
    assert store.admit_many([]) == []


def test_many_that_were_not_sent_end_their_own_claims_only(store: ClaimStore) -> None:
    store.admit_many([ask("A", name="a"), ask("B", name="b")])
    store.start(ask("C", "t", name="c"))
    unsent = [Unsent(name=name, task_id=task) for name, task in (("a", "A"), ("b", "X"), ("c", "C"))]
    assert store.withdraw_many(unsent) == [
        True,
        False,
        False,
    ]
    assert [store.holding(name) is not None for name in "abc"] == [False, True, True]
    assert store.withdraw_many([]) == []
