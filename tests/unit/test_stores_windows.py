"""Ignore windows: the contract of `ClaimStore`, held by every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.stores.base import Answer, Ask, Holding, Verdict

if TYPE_CHECKING:
    from django_celery_extensions.stores.base import ClaimStore

FREE, HELD, BUSY, WINDOW = Verdict.FREE, Verdict.HELD, Verdict.BUSY, Verdict.WINDOW


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


def of(task_id: str = "A", token: str = "", name: str = "n") -> Holding:
    return Holding(name=name, task_id=task_id, token=token)


def held_by(store: ClaimStore) -> tuple[str, str] | None:
    holding = store.holding("n")
    return None if holding is None else (holding.task_id, holding.token)


@pytest.mark.parametrize("own", [True, False])
def test_success_opens_the_window_whoever_holds_the_claim(store: ClaimStore, *, own: bool) -> None:
    store.start(ask("A" if own else "B", "t"))
    for _ in range(2):
        store.settle(of("A", "t"), 60)
    assert held_by(store) == (None if own else ("B", "t"))
    assert store.admit(ask("C", window=True)) == Answer(verdict=WINDOW, task_id="A")


def test_window_is_seen_by_those_who_look(store: ClaimStore) -> None:
    store.open_window("n", "A", 60)
    assert store.admit(ask("B", window=True)) == Answer(verdict=WINDOW, task_id="A")
    assert store.admit(ask("B", window=True, claim=None)) == Answer(verdict=WINDOW, task_id="A")
    assert store.holding("n") is None
    assert store.admit(ask("B")).verdict is FREE
    assert store.admit(ask("B", name="n2", window=True)).verdict is FREE


def test_window_comes_before_the_claim_of_another(store: ClaimStore) -> None:
    store.admit(ask("A"))
    store.open_window("n", "Z", 60)
    assert store.admit(ask("B", window=True)) == Answer(verdict=WINDOW, task_id="Z")


def test_newest_window_counts(store: ClaimStore) -> None:
    store.open_window("n", "A", 60)
    store.open_window("n", "B", 60)
    assert store.admit(ask("C", window=True)).task_id == "B"


@pytest.mark.parametrize("token", ["", "t"])
def test_window_forbids_the_start_and_ends_the_own_claim(store: ClaimStore, token: str) -> None:
    store.admit(ask("A"))
    if token:
        store.start(ask("A", token))
    store.open_window("n", "Z", 60)
    for _ in range(2):
        assert store.start(ask("A", "t", window=True)) == Answer(verdict=WINDOW, task_id="Z")
    assert store.holding("n") is None


@pytest.mark.parametrize(("task_id", "token"), [("B", ""), ("B", "t"), ("A", "other")])
def test_window_ends_no_claim_of_another(store: ClaimStore, task_id: str, token: str) -> None:
    store.admit(ask(task_id))
    if token:
        store.start(ask(task_id, token))
    store.open_window("n", "Z", 60)
    assert store.start(ask("A", "t", window=True)).verdict is WINDOW
    assert held_by(store) == (task_id, token)


def test_forget_ends_claim_and_window(store: ClaimStore) -> None:
    store.start(ask("A", "t"))
    store.open_window("n", "A", 60)
    for _ in range(2):
        store.forget("n")
        assert store.holding("n") is None
    assert store.admit(ask("B", window=True)).verdict is FREE
