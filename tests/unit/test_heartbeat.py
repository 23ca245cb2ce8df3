"""The heartbeat: what it renews, together with what, and what wakes it."""

from __future__ import annotations

import contextlib
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions import heartbeat as module
from django_celery_extensions.heartbeat import Heartbeat
from django_celery_extensions.leases import RENEWALS, Lease
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Store:
    """Renews everything, and remembers what it was asked for together."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.error: BaseException | None = None

    def renew(self, holdings: Sequence[tuple[str, float]]) -> list[bool]:
        self.asked.append([name for name, _ in holdings])
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [True] * len(holdings)

    def times(self, name: str) -> int:
        return sum(name in names for names in [*self.asked])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    found = Store()
    monkeypatch.setattr(module, "renewer", lambda _: found)
    return found


class Waits(threading.Condition):
    """What a heartbeat sleeps on; it remembers for how long each time."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())
        self.made: list[float | None] = []
        self.asleep = False

    def wait(self, timeout: float | None = None) -> bool:
        self.made.append(timeout)
        self.asleep = True
        try:
            return super().wait(timeout)
        finally:
            self.asleep = False

    def without_end(self) -> bool:
        return self.asleep and self.made[-1] is None


@pytest.fixture
def heart(store: Store) -> Iterator[Heartbeat]:
    found = Heartbeat()
    found._wake = Waits()

    def run() -> None:
        with contextlib.suppress(SystemExit):
            Heartbeat._run(found)

    found._run = run  # type: ignore[method-assign]
    yield found
    found._held.clear()
    if found._thread is not None:
        found.owe(sys.exit, pause=0)
    wait_until(lambda: found._thread is None, what="its thread ended")


@pytest.fixture
def waits(heart: Heartbeat) -> Waits:
    assert isinstance(heart._wake, Waits)
    return heart._wake


def lease(name: str, length: float = 0.6) -> Lease:
    return Lease(name, place="here", margin=0.1, length=length, asked_at=monotonic())


def threads() -> int:
    return sum(thread.name == "django-celery-extensions-heartbeat" for thread in threading.enumerate())


def test_kept_is_renewed_and_dropped_is_not(heart: Heartbeat, store: Store) -> None:
    kept, dropped = lease("kept"), lease("dropped")
    heart.keep(kept)
    heart.keep(dropped)
    heart.drop(dropped)
    heart.drop(dropped)
    wait_until(lambda: store.times("kept") > 3, what="it is renewed")
    assert not kept.lost
    assert store.times("dropped") == 0


def test_what_nobody_has_any_more_is_not_renewed(heart: Heartbeat, store: Store) -> None:
    heart.keep(lease("forgotten"))
    other = lease("other")
    heart.keep(other)
    wait_until(lambda: store.times("other") > 1, what="another one is renewed")
    assert store.times("forgotten") == 0
    assert heart.held() == [other]


def test_dropping_one_that_was_not_kept_drops_no_other(heart: Heartbeat, store: Store) -> None:
    kept, never = lease("kept"), lease("never")
    heart.keep(kept)
    heart.drop(never)
    wait_until(lambda: store.times("kept") > 0, what="it is renewed")


def test_leases_taken_one_after_the_other_are_renewed_together(heart: Heartbeat, store: Store) -> None:
    length = 0.9
    held = []
    for number in range(15):
        held.append(lease(f"n{number}", length))
        heart.keep(held[-1])
        threading.Event().wait(length / RENEWALS / 15)
    wait_until(lambda: any(len(names) == 15 for names in store.asked), what="all go together")
    until, before = monotonic() + length, len(store.asked)
    threading.Event().wait(until - monotonic())
    asked = store.asked[before:]
    assert {len(names) for names in asked} == {15}
    assert len(asked) <= RENEWALS + 1
    assert not any(each.lost for each in held)


def test_locks_that_come_and_go_wake_nobody(
    heart: Heartbeat, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    due = heart._due
    monkeypatch.setattr(heart, "_due", lambda now: looks.append(now) or due(now))
    first = lease("first", length=60)
    heart.keep(first)
    wait_until(lambda: heart._looks_at == first.renew_at, what="it sleeps")
    with monkeypatch.context() as patched:
        patched.setattr(heart, "_look_at", lambda _: pytest.fail("it was woken"))
        for number in range(1000):
            each = lease(f"n{number}", length=60)
            heart.keep(each)
            heart.drop(each)
    assert looks == []
    assert heart.held() == [first]
    assert store.asked == []


def test_lease_that_comes_while_the_heartbeat_looks_is_renewed(
    heart: Heartbeat, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked past it and would sleep for longer; what it meant to look at before is in the past."""
    late: list[Lease] = []
    held = heart.held
    patient, early = lease("patient", length=60), lease("early", length=0.3)

    def look() -> list[Lease]:
        if late or not store.times("early"):
            return held()
        heart.drop(early)
        found = held()
        late.append(lease("late"))
        thread = threading.Thread(target=heart.keep, args=(late[0],))
        thread.start()
        thread.join(0.05)
        return found

    monkeypatch.setattr(heart, "held", look)
    heart.keep(patient)
    heart.keep(early)
    wait_until(lambda: bool(late) and store.times("late") > 0, timeout=2, what="it is renewed")
    assert not late[0].lost


def test_leases_of_many_threads_are_all_renewed(heart: Heartbeat, store: Store) -> None:
    """None is missed, however the heartbeat's looking and their coming meet."""
    lost: list[str] = []
    until = monotonic() + 3

    def run(number: int) -> None:
        while monotonic() < until:
            each = lease(f"n{number}", length=1.2)  # a machine that stands still for 0.8 s is survived
            heart.keep(each)
            threading.Event().wait(1.3 if number % 2 else 0.001)
            if each.lost:
                lost.append(f"{number} after {monotonic()}")
            heart.drop(each)

    runners = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(10)
    assert lost == []
    assert heart.held() == []


@pytest.mark.parametrize("error", [SystemExit(), RuntimeError("mine")])
def test_heartbeat_that_was_ended_begins_anew(
    heart: Heartbeat, store: Store, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    store.error = error
    first = lease("first")
    heart.keep(first)
    wait_until(lambda: store.error is None, what="it met the error")
    if isinstance(error, SystemExit):
        wait_until(lambda: heart._thread is None, what="its thread ended")
    second = lease("second")
    heart.keep(second)
    wait_until(lambda: store.times("second") > 1 and store.times("first") > 1, what="both are renewed")


def test_heartbeat_that_holds_nothing_sleeps_until_somebody_wakes_it(
    heart: Heartbeat, waits: Waits, store: Store
) -> None:
    assert heart._thread is None, "there is none before something is held"
    heart.keep(each := lease("kept"))
    thread = heart._thread
    wait_until(lambda: store.times("kept") > 1, what="it is renewed")
    heart.drop(each)
    wait_until(waits.without_end, what="it sleeps")
    slept, asked = len(waits.made), len(store.asked)
    heart.keep(each := lease("short", length=0.3))
    heart.drop(each)
    wait_until(lambda: waits.without_end() and len(waits.made) > slept, what="it sleeps again")
    assert len(waits.made) == slept + 2, "woken, and once more at the moment that it was woken for"
    assert len(store.asked) == asked
    assert heart._thread is thread


def test_heartbeat_is_woken_once_for_all_that_come_and_go(heart: Heartbeat, waits: Waits) -> None:
    """Also where each of them has gone before the heartbeat, woken for it, looks."""
    heart.keep(each := lease("first", length=0.3))
    heart.drop(each)
    wait_until(waits.without_end, what="it sleeps")
    slept = len(waits.made)
    for number in range(100):
        heart.keep(each := lease(f"n{number}", length=60))
        heart.drop(each)
        wait_until(lambda: waits.asleep and len(waits.made) > slept, what="it was woken for the first")
    assert len(waits.made) == slept + 1
    assert not waits.without_end()


def test_debt_is_paid_by_a_heartbeat_that_sleeps(
    heart: Heartbeat, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart.keep(each := lease("first", length=0.3))
    heart.drop(each)
    wait_until(waits.without_end, what="it sleeps")
    paid: list[None] = []
    heart.owe(lambda: paid.append(None), pause=0.01)
    wait_until(lambda: len(paid) == module.PAYMENTS, what="it is paid")
    wait_until(waits.without_end, what="it sleeps again")


def test_debt_that_cannot_be_paid_is_let_go(
    heart: Heartbeat, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: it stays due, and each round of renewals waits for it once more."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    asked: list[None] = []

    def pay() -> None:
        asked.append(None)
        raise ValueError

    heart.owe(pay, pause=0.01)
    heart.keep(each := lease("a"))
    wait_until(lambda: store.times("a") > 2, what="the lease is renewed")
    assert len(asked) == 1
    heart.drop(each)


def test_thread_that_cannot_be_started_is_tried_again(
    heart: Heartbeat, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    first = lease("first")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            heart.keep(first)
    second = lease("second")
    heart.keep(second)
    wait_until(lambda: store.times("first") > 0 and store.times("second") > 0, what="both are renewed")
