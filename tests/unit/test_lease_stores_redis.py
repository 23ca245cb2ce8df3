"""Leases on Redis, beyond the contract: what the scripts read, write and leave behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches

from django_celery_extensions import locks
from django_celery_extensions.exceptions import HolderLimitConflict
from django_celery_extensions.stores import lease_store, renewer
from django_celery_extensions.stores.leases import LeaseAsk, LeaseHolding
from tests.settings import redis_cache
from tests.unit.stores import use_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore
    from tests.servers import RedisServer

KEY = ":1:dce:{n}"
HOUR = 3600.0


@pytest.fixture
def server(store_server: RedisServer, settings: SettingsWrapper) -> RedisServer:
    store_server.flush()
    use_cache(settings, redis_cache(store_server.url))
    return store_server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as found:
        yield found


@pytest.fixture
def store(server: RedisServer) -> LeaseStore:
    return lease_store()


def ask(token: str = "t", **given: Any) -> LeaseAsk:
    return LeaseAsk(**{"name": "n", "token": token, "owner": f"owner of {token}", "lasts": 30.0, **given})


def take(store: LeaseStore, token: str = "t", **given: Any) -> LeaseHolding:
    holding = store.take(ask(token, **given)).holding
    assert holding is not None
    return holding


def micros() -> int:
    return time.time_ns() // 1000


# fences


def test_fence_is_the_servers_clock(store: LeaseStore) -> None:
    before = micros()
    assert before <= take(store).fence <= micros()


@pytest.mark.parametrize("most", [1, 3])
def test_fences_grow_where_the_clock_went_back(store: LeaseStore, client: redis.Redis, most: int) -> None:
    store.give_back(take(store, most=most))
    ahead = micros() + 1_000_000_000
    client.hset(KEY, "fence", ahead)
    for number in range(1, 4):
        holding = take(store, f"t{number}", most=most)
        assert holding.fence == ahead + number
        store.give_back(holding)


def test_fences_grow_where_everything_was_lost(store: LeaseStore, server: RedisServer) -> None:
    first = take(store)
    server.flush()
    assert take(store, "u").fence > first.fence
    assert store.renew([(first, 30.0)]) == [False]


def test_fences_of_a_lock_and_of_a_semaphore_of_one_name_grow(store: LeaseStore) -> None:
    fences = []
    for number, most in enumerate((1, 3, 1, 2, 2, 1)):
        holding = take(store, f"t{number}", most=most)
        fences.append(holding.fence)
        store.give_back(holding)
    assert fences == sorted(set(fences))


# what is left behind


def fill(store: LeaseStore, most: int) -> list[LeaseHolding]:
    """Have all kinds of keys: held, waited for, rung for."""
    held = [take(store, f"held {number}", most=most) for number in range(most)]
    for token in ("waits", "waits too"):
        assert store.take(ask(token, most=most, waits=True)).holding is None
    store.give_back(held.pop())
    return held


@pytest.mark.parametrize("most", [1, 3])
def test_every_key_ends(store: LeaseStore, client: redis.Redis, most: int) -> None:
    held = fill(store, most)
    lasting = {key: client.pttl(key) / 1000 for key in client.scan_iter("*")}
    assert {key.removeprefix(KEY).partition(":waits")[0] for key in lasting} == {
        "",
        ":queue",
        ":alive",
        ":bell",
        *([":holders"] if most > 1 else []),
    }
    assert all(0 < seconds <= HOUR + 30 for seconds in lasting.values()), lasting
    assert lasting[KEY] > HOUR / 2
    for holding in held:
        store.give_back(holding)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("hours", [1, 5])
def test_name_is_remembered_for_longer_than_its_leases(
    store: LeaseStore, client: redis.Redis, most: int, hours: int
) -> None:
    """Taken, taken again and renewed: each lease is written for the length that it has."""
    take(store, "before", name="n")
    store.leave(ask("before"))
    holding = take(store, most=most, lasts=60.0)
    assert all(client.pttl(key) / 1000 > HOUR / 2 for key in client.scan_iter("*"))
    assert store.renew([(holding, hours * HOUR)]) == [True]
    assert all(client.pttl(key) / 1000 > (hours + 0.5) * HOUR - 1 for key in client.scan_iter("*"))
    assert take(store, most=most, lasts=(hours + 1) * HOUR) == holding
    assert all(client.pttl(key) / 1000 > (hours + 1.5) * HOUR - 1 for key in client.scan_iter("*"))


def test_lock_is_plain_again_when_nobody_waits(
    store: LeaseStore, server: RedisServer, client: redis.Redis
) -> None:
    holding = take(store)
    assert store.take(ask("waits", waits=True)).holding is None
    store.give_back(holding)
    store.give_back(take(store, "waits", waits=True))
    assert not client.hexists(KEY, "most")
    with server.counting() as counted:
        store.give_back(take(store, waits=True))
    counted.pop("evalsha")
    assert sum(counted.values()) <= 6, counted


def test_lock_is_plain_again_when_who_waited_is_gone(store: LeaseStore, client: redis.Redis) -> None:
    holding = take(store)
    assert store.take(ask("waits", waits=True)).holding is None
    store.leave(ask("waits"))
    store.give_back(holding)
    store.give_back(take(store, "u"))
    assert not client.hexists(KEY, "most")


def test_name_of_a_semaphore_becomes_that_of_a_lock(store: LeaseStore, client: redis.Redis) -> None:
    store.give_back(take(store, most=3))
    holding = take(store)
    assert not client.hexists(KEY, "most")
    with pytest.raises(HolderLimitConflict, match="is held with max_leases=1"):
        store.take(ask("u", most=3))
    store.give_back(holding)


# what somebody else takes away


def test_semaphore_whose_hash_was_taken_away_is_still_held(store: LeaseStore, client: redis.Redis) -> None:
    """A server that runs out of memory drops whole keys: never more holders than allowed are told that they hold."""
    held = [take(store, f"t{number}", most=3) for number in range(3)]
    client.delete(KEY)
    assert store.take(ask("u", most=3)).holding is None
    assert store.renew([(each, 30.0) for each in held]) == [True] * 3
    assert store.give_back(held[0])
    assert store.take(ask("u", most=3)).holding is not None


def test_lock_whose_hash_was_taken_away_is_lost(store: LeaseStore, client: redis.Redis) -> None:
    holding = take(store)
    client.delete(KEY)
    assert store.renew([(holding, 30.0)]) == [False]
    assert store.give_back(holding) is False
    assert take(store, "u").fence > holding.fence


def test_renewal_carries_its_script_once(store: LeaseStore, server: RedisServer, client: redis.Redis) -> None:
    held = [take(store, f"t{number}", name=f"n{number}") for number in range(3)]
    client.script_flush()
    with server.recording() as recorded:
        assert store.renew([(each, 30.0) for each in held]) == [True] * 3
    commands = [command for command in recorded if command[0] != "CLIENT"]
    assert [command[0] for command in commands] == ["EVAL", "EVALSHA", "EVALSHA"]


# keys


def by_tenant(key: str, prefix: str, version: int) -> str:
    return f"{_tenant[0]}:{prefix}:{version}:{key}"


_tenant = [""]


def test_lock_is_renewed_and_given_back_where_it_was_taken(
    server: RedisServer, settings: SettingsWrapper
) -> None:
    """A KEY_FUNCTION may go by what the thread is about; the heartbeat's is about nothing."""
    use_cache(settings, {**redis_cache(server.url), "KEY_FUNCTION": f"{__name__}.by_tenant"})
    _tenant[0] = "one"
    with locks.lock("n") as lock:
        assert lock
        _tenant[0] = "two"
        assert renewer("cache").renew([(lock.holding, 30.0)]) == [True]
        assert locks.holders("n") == []
    _tenant[0] = "one"
    assert locks.holders("n") == []


def test_store_is_that_of_the_settings(server: RedisServer, settings: SettingsWrapper) -> None:
    """It is looked up once in a thread; other settings are another one."""
    first = lease_store()
    assert lease_store() is first
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "other": redis_cache(server.url),
    }
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "other"
    second = lease_store()
    assert second is not first
    assert second._client is not None  # type: ignore[attr-defined]
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "default"
    assert type(lease_store(eager=True)) is not type(second)
    assert "other" in caches
