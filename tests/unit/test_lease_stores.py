"""The contract of `LeaseStore`, held by every store on its real server."""

from __future__ import annotations

import threading
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.exceptions import (
    HolderLimitConflict,
    TaskConfigurationError,
)
from django_celery_extensions.stores.leases import PATIENCE, POLL, LeaseAsk, LeaseHolding
from tests.unit.lease_stores import ALL, COUNTING, ENDING, QUEUEING, LeaseBackend, opened_leases
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore

LASTS = 30.0


def among(names: Sequence[str]) -> pytest.MarkDecorator:
    """Run a test for these stores only."""
    return pytest.mark.parametrize("backend", names, indirect=True)


counting = among(COUNTING)
queueing = among(QUEUEING)
ending = among(ENDING)


@pytest.fixture(params=ALL)
def backend(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[LeaseBackend]:
    with opened_leases(request.param, request, settings) as found:
        yield found


@pytest.fixture
def store(backend: LeaseBackend) -> LeaseStore:
    return backend.store


def ask(token: str = "t", **given: Any) -> LeaseAsk:
    return LeaseAsk(**{"name": "n", "token": token, "owner": f"owner of {token}", "lasts": LASTS, **given})


def take(store: LeaseStore, token: str = "t", **given: Any) -> LeaseHolding:
    holding = store.take(ask(token, **given)).holding
    assert holding is not None
    return holding


def free(store: LeaseStore, token: str, **given: Any) -> bool:
    return store.take(ask(token, **given)).holding is not None


# taking


def test_first_holds_and_second_does_not(store: LeaseStore) -> None:
    grant = store.take(ask("t"))
    assert grant.holding is not None
    assert (grant.holding.name, grant.holding.token) == ("n", "t")
    assert grant.lasts > 0
    for _ in range(2):
        assert store.take(ask("u")).holding is None
    assert [holder.token for holder in store.holders("n")] == ["t"]


def test_names_do_not_meet(store: LeaseStore) -> None:
    take(store, "t")
    for number, name in enumerate(("N", "n2", "nn", "n:1")):
        assert free(store, f"u{number}", name=name)
    assert store.holders("other") == []


def test_asking_again_gives_the_same_holding(store: LeaseStore) -> None:
    first = take(store, "t")
    assert take(store, "t") == first
    assert len(store.holders("n")) == 1
    assert store.give_back(first)
    assert store.holders("n") == []


def test_fences_grow(store: LeaseStore) -> None:
    fences = []
    for number in range(5):
        holding = take(store, f"t{number}")
        fences.append(holding.fence)
        store.give_back(holding)
    assert fences == sorted(set(fences))


def test_holders_are_told(store: LeaseStore) -> None:
    import time

    began = time.time()
    holding = take(store, "t", owner="worker 7 ~ é")
    (holder,) = store.holders("n")
    assert (holder.name, holder.owner, holder.token) == ("n", "worker 7 ~ é", "t")
    assert holder.fence == holding.fence
    assert began - 2 <= holder.since <= time.time() + 2
    assert holder.expires_in is None or 0 < holder.expires_in < LASTS + 0.1


# giving back


def test_given_back_is_free(store: LeaseStore) -> None:
    holding = take(store, "t")
    assert store.give_back(holding) is True
    assert free(store, "u")


def test_giving_back_twice_does_no_harm(store: LeaseStore) -> None:
    holding = take(store, "t")
    store.give_back(holding)
    other = take(store, "u")
    assert store.give_back(holding) is False
    assert [holder.token for holder in store.holders("n")] == [other.token]


def test_only_the_owner_gives_back(store: LeaseStore) -> None:
    holding = take(store, "t")
    assert store.give_back(replace(holding, token="u")) is False
    assert not free(store, "u")
    assert store.give_back(holding) is True


def test_leaving_ends_what_was_taken_unknowingly(store: LeaseStore) -> None:
    take(store, "t")
    store.leave(ask("t"))
    assert store.holders("n") == []
    store.leave(ask("t"))
    assert free(store, "u")
    store.leave(ask("t"))
    assert [holder.token for holder in store.holders("n")] == ["u"]


def test_evicted_holder_finds_out_and_leaves_the_next_alone(store: LeaseStore) -> None:
    holding = take(store, "t")
    (holder,) = store.holders("n")
    assert store.evict(holder) is True
    other = take(store, "u")
    assert other.fence > holding.fence
    assert store.evict(holder) is False
    assert store.renew([(holding, LASTS), (other, LASTS)]) == [False, True]
    assert store.give_back(holding) is False
    assert [each.token for each in store.holders("n")] == ["u"]


# lasting


def test_renewed_lease_lasts(backend: LeaseBackend) -> None:
    store = backend.store
    holding = take(store, "t", lasts=backend.shortest)
    ends = monotonic() + 1.5 * backend.longest
    while monotonic() < ends:
        assert store.renew([(holding, backend.shortest)]) == [True]
        assert not free(store, "u")
        threading.Event().wait(backend.shortest / 10)


@ending
def test_lease_that_is_not_renewed_ends(backend: LeaseBackend) -> None:
    store = backend.store
    began = monotonic()
    holding = take(store, "t", lasts=backend.shortest)
    wait_until(lambda: free(store, "u"), timeout=backend.longest + 1, what="it is free")
    assert monotonic() - began >= backend.shortest, "a lease is never shorter than it says"
    assert store.renew([(holding, LASTS)]) == [False]
    assert store.give_back(holding) is False
    assert [holder.token for holder in store.holders("n")] == ["u"]


@ending
def test_never_ends_early(backend: LeaseBackend) -> None:
    """Whole-second clocks cut the moment of the end: one second can be a moment (Memcached, the database cache)."""
    began = {}
    for number in range(8):
        began[f"n{number}"] = monotonic()
        take(backend.store, f"t{number}", name=f"n{number}", lasts=backend.shortest)
        threading.Event().wait(0.13)
    while began:
        for name, since in [*began.items()]:
            is_free = free(backend.store, "u", name=name)
            passed = monotonic() - since  # with the time that asking took
            if passed >= 0.9 * backend.shortest:
                del began[name]
            else:
                assert not is_free, f"after {passed:.3f} s"


def test_many_are_renewed_together_and_answered_in_order(store: LeaseStore) -> None:
    held = [take(store, f"t{number}", name=f"n{number}") for number in range(4)]
    store.give_back(held[2])
    stranger = replace(held[3], token="u")
    wanted = [(holding, LASTS) for holding in (*held, stranger)]
    assert store.renew(wanted) == [True, True, False, True, False]


# several holders


@among([name for name in ALL if name not in COUNTING])
def test_semaphore_is_refused_where_it_cannot_be(backend: LeaseBackend) -> None:
    with pytest.raises(TaskConfigurationError, match="needs Redis or ZooKeeper"):
        backend.store.take(ask("t", most=2))


@counting
def test_so_many_and_no_more(store: LeaseStore) -> None:
    held = [take(store, f"t{number}", most=3) for number in range(3)]
    assert not free(store, "u", most=3)
    assert [holder.token for holder in store.holders("n")] == ["t0", "t1", "t2"]
    assert len({holding.fence for holding in held}) == 3
    store.give_back(held[1])
    assert free(store, "u", most=3)
    assert not free(store, "v", most=3)
    assert [holder.token for holder in store.holders("n")] == ["t0", "t2", "u"]


@among([name for name in COUNTING if name in ENDING])
def test_dead_holder_frees_its_own_slot_only(backend: LeaseBackend) -> None:
    store = backend.store
    living = take(store, "living", most=2, lasts=backend.shortest)
    take(store, "dead", most=2, lasts=backend.shortest)
    freed = False
    ends = monotonic() + 2 * backend.longest
    while monotonic() < ends:  # a living neighbour does not keep the dead one alive
        assert store.renew([(living, backend.shortest)]) == [True]
        freed = freed or free(store, "next", most=2)
        threading.Event().wait(backend.shortest / 10)
    assert freed
    assert "dead" not in [holder.token for holder in store.holders("n")]


@counting
@pytest.mark.parametrize(("held", "asked"), [(3, 2), (2, 3), (1, 2), (2, 1)])
def test_another_number_of_leases_is_refused_while_held(store: LeaseStore, held: int, asked: int) -> None:
    holding = take(store, "t", most=held)
    with pytest.raises(HolderLimitConflict, match=f"max_leases={asked}.* max_leases={held}"):
        store.take(ask("u", most=asked))
    store.give_back(holding)
    assert free(store, "u", most=asked)
    with pytest.raises(HolderLimitConflict):
        store.take(ask("v", most=held))


# waiting


@queueing
def test_who_waits_is_served_in_order(store: LeaseStore) -> None:
    holding = take(store, "t")
    for token in ("a", "b", "c"):
        assert not free(store, token, waits=True)
    order = []
    for _ in range(3):
        store.give_back(holding)
        for token in ("c", "b", "a"):
            grant = store.take(ask(token, waits=True)) if token not in order else None
            if grant is not None and grant.holding is not None:
                order.append(token)
                holding = grant.holding
                break
    assert order == ["a", "b", "c"]


@queueing
def test_nobody_gets_past_the_queue(store: LeaseStore) -> None:
    holding = take(store, "t")
    assert not free(store, "waits", waits=True)
    store.give_back(holding)
    assert not free(store, "passer-by")
    assert free(store, "waits", waits=True)


@queueing
def test_place_that_was_left_is_nobodys(store: LeaseStore) -> None:
    holding = take(store, "t")
    assert not free(store, "a", waits=True)
    assert not free(store, "b", waits=True)
    store.leave(ask("a"))
    store.give_back(holding)
    assert free(store, "b", waits=True)


@among([name for name in QUEUEING if name in ENDING])
def test_place_of_who_does_not_ask_again_is_given_up(backend: LeaseBackend) -> None:
    store = backend.store
    holding = take(store, "t")
    assert not free(store, "dead", waits=True)
    store.give_back(holding)
    wait_until(lambda: free(store, "u"), timeout=PATIENCE + 1, what="the dead one's place is given up")


@queueing
def test_giving_back_wakes_who_waits(backend: LeaseBackend) -> None:
    """Long before it would look again by itself."""
    store = backend.store
    late = 0
    for number in range(5):
        holding = take(store, f"t{number}")
        woken = _wait_in_thread(backend, f"w{number}")
        store.give_back(holding)
        began = monotonic()
        assert woken.wait(5)
        late += monotonic() - began > POLL / 3
        store.leave(ask(f"w{number}"))
    assert late <= 1


def _wait_in_thread(backend: LeaseBackend, token: str) -> threading.Event:
    """Queue in another thread, and return what is set when that waited and then got it."""
    queued, woken = threading.Event(), threading.Event()

    def run() -> None:
        with backend.of_this_thread() as store:
            grant = store.take(ask(token, waits=True))
            assert grant.holding is None
            queued.set()
            while grant.holding is None:
                store.wait(ask(token, waits=True), POLL)
                grant = store.take(ask(token, waits=True))
            woken.set()

    threading.Thread(target=run, daemon=True).start()
    assert queued.wait(5)
    return woken


@queueing
def test_wake_up_before_the_wait_is_not_lost(store: LeaseStore) -> None:
    holding = take(store, "t")
    assert not free(store, "a", waits=True)
    store.give_back(holding)
    began = monotonic()
    store.wait(ask("a", waits=True), 5)
    assert monotonic() - began < 2
    assert free(store, "a", waits=True)


def test_waiting_is_bounded(store: LeaseStore) -> None:
    take(store, "t")
    assert not free(store, "a", waits=True)
    began = monotonic()
    store.wait(ask("a", waits=True), 0.2)
    assert monotonic() - began < 2


# races


def test_one_holder_of_many_who_ask(backend: LeaseBackend) -> None:
    check_race(backend, 1)


@counting
def test_three_holders_of_many_who_ask(backend: LeaseBackend) -> None:
    check_race(backend, 3)


def check_race(backend: LeaseBackend, most: int) -> None:
    for number in range(3 if backend.name == "sqlite" else 10):
        holdings, errors = _race(backend, f"race-{number}", most)
        assert not errors, errors
        assert len(holdings) == most
        assert len({holding.fence for holding in holdings}) == len(holdings)


def _race(
    backend: LeaseBackend, name: str, most: int, runners: int = 12
) -> tuple[list[LeaseHolding], list[BaseException]]:
    gun = threading.Barrier(runners)
    holdings: list[LeaseHolding] = []
    errors: list[BaseException] = []

    def run(token: str) -> None:
        try:
            with backend.of_this_thread() as store:
                gun.wait(10)
                holding = store.take(ask(token, name=name, most=most)).holding
                if holding is not None:
                    holdings.append(holding)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(f"token-{number}",)) for number in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return holdings, errors
