"""The heartbeat: what it renews, together with what, and what wakes it."""

from __future__ import annotations

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


@pytest.fixture
def heart(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heartbeat]:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "IDLE_ROUNDS", 2)
    found = Heartbeat()
    yield found
    found._held.clear()
    with found._wake:
        found._wake.notify()
    wait_until(lambda: found._thread is None, what="its thread ended")


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
    monkeypatch.setattr(heart, "_look_at", lambda _: pytest.fail("it was woken"))
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
    until = monotonic() + 1.5

    def run(number: int) -> None:
        while monotonic() < until:
            each = lease(f"n{number}", length=0.45)
            heart.keep(each)
            threading.Event().wait(0.5 if number % 2 else 0.001)
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
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


def test_idle_heartbeat_ends_and_one_that_is_used_does_not(
    heart: Heartbeat, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_ROUNDS", 2)
    heart.keep(lease("n", length=60))
    used = heart._thread
    assert used is not None
    until = monotonic() + 10 * module.IDLE_SECONDS
    while monotonic() < until:
        heart.keep(each := lease("n", length=60))
        heart.drop(each)
        threading.Event().wait(module.IDLE_SECONDS / 5)
    assert heart._thread is used
    wait_until(lambda: heart._thread is None, what="it ended")
    wait_until(lambda: not used.is_alive(), what="and so did its thread")
    kept = lease("kept")
    heart.keep(kept)
    wait_until(lambda: store.times("kept") > 0, what="another one does its work")


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
