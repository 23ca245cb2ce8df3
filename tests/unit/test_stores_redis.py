"""What a store on Redis promises beyond the contract: round trips, keys, scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions import keys
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Holding, Unsent, Verdict
from django_celery_extensions.stores.redis_client import Script
from tests.conftest import unless_missing
from tests.servers import RedisServer
from tests.servers_redis import RedisClusterServers
from tests.settings import redis_cache
from tests.unit.stores import DJANGO_REDIS, REDIS, Backend, opened, redis_options, use_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis as redis_py
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.base import ClaimStore
    from tests.conftest import MakeServer

FREE, HELD = Verdict.FREE, Verdict.HELD


@pytest.fixture(params=REDIS)
def on_redis(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    with opened(request.param, request, settings) as found:
        yield found


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


STEPS: dict[str, Callable[[ClaimStore], Any]] = {
    "admit": lambda store: store.admit(ask("A", window=True)),
    "start": lambda store: store.start(ask("A", "t", window=True)),
    "settle": lambda store: store.settle(Holding(name="n", task_id="A", token="t"), 60),
    "renew": lambda store: store.renew([(Holding(name="n", task_id="A", token="t"), 60.0)]),
    "requeue": lambda store: store.requeue(Holding(name="n", task_id="A", token="t"), 60.0),
    "open_window": lambda store: store.open_window("n", "A", 60),
    "holding": lambda store: store.holding("n"),
    "forget": lambda store: store.forget("n"),
}


def test_scripts_are_sent_again_to_a_server_that_forgot_them(on_redis: Backend) -> None:
    store = on_redis.store
    with on_redis.server.client() as redis:
        for step in ("admit", "start", "settle", "requeue", "renew") * 2:
            redis.script_flush()
            STEPS[step](store)
    for number in range(2):
        assert store.admit(ask("A", name=f"other-{number}")).verdict is FREE
    store.forget("n")
    assert store.admit(ask("A")).verdict is FREE


def test_scripts_of_many_are_sent_again_too(on_redis: Backend, redis: redis_py.Redis) -> None:
    store = on_redis.store
    for number in range(2):
        redis.script_flush()
        asks = [ask("A", name=f"{number}-{i}") for i in range(5)]
        assert [answer.verdict for answer in store.admit_many(asks)] == [FREE] * 5
        redis.script_flush()
        unsent = [Unsent(name=each.name, task_id="A") for each in asks]
        assert store.withdraw_many(unsent) == [True] * 5


def test_script_that_went_missing_among_many_is_sent_again(
    on_redis: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cluster, where the first of them has told one server of the script, and not the others."""
    store: Any = on_redis.store
    store._together = False
    pipelined = Script._pipelined

    def forgetful(self: Script, client: Any, calls: Any, in_full: int) -> Any:
        replies = pipelined(self, client, calls, in_full)
        return [NoScriptError(), *replies[1:3], NoScriptError()] if in_full == 1 else replies

    class NoScriptError(Exception):
        pass

    monkeypatch.setattr(Script, "_pipelined", forgetful)
    answers = store.admit_many([ask("A", name=name) for name in "abcd"])
    assert [answer.verdict for answer in answers] == [FREE] * 4


def test_foreign_value_under_a_claim_ends_that_claim_only(on_redis: Backend) -> None:
    """Naive: one reply that is an error ends all renewals of the process."""
    store: Any = on_redis.store
    for name in ("a", "b"):
        store.start(Ask(name=name, task_id="A", token="t", claim=60))
    store._client.set(store.key(keys.claim_key("a")), "somebody else's")
    wanted = [(Holding(name=name, task_id="A", token="t"), 60) for name in ("a", "b")]
    assert store.renew(wanted) == [False, True]


def test_error_says_what_happened_and_where(make_server: MakeServer, settings: SettingsWrapper) -> None:
    server = make_server(RedisServer)
    use_cache(settings, redis_cache(server.url))
    server.kill()
    with pytest.raises(StoreUnavailable, match=rf"ConnectionError: .*127\.0\.0\.1:{server.port}"):
        claim_store(eager=True).admit(ask("A"))


def test_many_are_one_round_trip(on_redis: Backend) -> None:
    store, server = on_redis.store, on_redis.server
    before = server.commands()
    store.admit_many([ask("A", name=f"n{number}") for number in range(200)])
    store.withdraw_many([Unsent(name=f"n{number}", task_id="A") for number in range(200)])
    after = server.commands()
    assert after["evalsha"] - before.get("evalsha", 0) == 1 + 199
    assert after.get("multi", 0) == before.get("multi", 0)


@pytest.mark.parametrize("looks_like_one_server", [True, False])
def test_many_in_a_cluster(settings: SettingsWrapper, looks_like_one_server: bool) -> None:
    """Naive: one script with the keys of all, which a cluster refuses unless they are in one slot."""
    with unless_missing(lambda: RedisClusterServers(nodes=1)) as cluster:
        options = (
            {} if looks_like_one_server else {"CONNECTION_FACTORY": "tests.project.cluster.ClusterFactory"}
        )
        use_cache(settings, {"BACKEND": DJANGO_REDIS, "LOCATION": cluster.url, "OPTIONS": options})
        store = claim_store(eager=True)
        store.admit(ask("X", name="taken"))
        names = ["a", "b", "taken", "a", "c", "d"]
        for had in (["", "", "X", "T0", "", ""], ["T0", "T1", "X", "T0", "T4", "T5"]):
            answers = store.admit_many([ask(f"T{at}", name=name) for at, name in enumerate(names)])
            assert [answer.task_id for answer in answers] == had
            assert [answer.verdict for answer in answers] == [FREE, FREE, HELD, HELD, FREE, FREE]
        unsent = [Unsent(name=name, task_id=f"T{at}") for at, name in enumerate(names)]
        assert store.withdraw_many(unsent) == [True, True, False, False, True, True]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_one_round_trip(on_redis: Backend, step: str) -> None:
    store = on_redis.store
    for _ in range(2):  # connections and scripts are there then
        STEPS[step](store)
    with on_redis.server.recording() as sent:
        STEPS[step](store)
    assert len(sent) == 1, sent


def test_renewals_of_all_claims_are_one_round_trip(on_redis: Backend) -> None:
    store, server = on_redis.store, on_redis.server
    held = [Holding(name=f"n{number}", task_id="A", token="t") for number in range(20)]
    for each in held:
        store.start(ask("A", "t", name=each.name))
    before = server.commands()
    assert store.renew([(each, 60.0) for each in held]) == [True] * 20
    after = server.commands()
    assert sum(after.get(name, 0) - before.get(name, 0) for name in ("eval", "evalsha")) == 20
    assert after.get("multi", 0) == before.get("multi", 0)


def test_lifetimes_are_kept_to_the_millisecond(on_redis: Backend) -> None:
    on_redis.store.admit(ask("A", claim=12.345))
    on_redis.store.open_window("n", "A", 54.321)
    with on_redis.server.client() as redis:
        assert 12_000 < redis.pttl(":1:{n}") <= 12_345
        (window,) = redis.keys("*ignore*")
        assert 54_000 < redis.pttl(window) <= 54_321


@pytest.mark.parametrize("backend_path", ["django-redis", "django's redis"])
def test_prefix_version_and_key_function_of_the_cache_are_kept(
    redis: redis_py.Redis, settings: SettingsWrapper, store_server: RedisServer, backend_path: str
) -> None:
    use_cache(
        settings,
        {
            **redis_options(backend_path, store_server.url),
            "KEY_PREFIX": "shop",
            "VERSION": 7,
            "KEY_FUNCTION": "tests.unit.test_stores_redis.make_key",
        },
    )
    settings.DJANGO_CELERY_EXTENSIONS_IGNORE_TASK_KEY_PREFIX = "quiet"
    store = claim_store()
    store.start(ask("A", "t"))
    store.open_window("n", "A", 60)
    assert sorted(redis.keys()) == [b"shop/7/quiet:{n}", b"shop/7/{n}"]
    assert store.renew([(Holding(name="n", task_id="A", token="t"), 60.0)]) == [True]
    assert store.settle(Holding(name="n", task_id="A", token="t"))
    store.forget("n")
    assert redis.keys() == []


def make_key(key: str, prefix: str, version: int) -> str:
    return f"{prefix}/{version}/{key}"


@pytest.mark.parametrize("name", ["memcached", "locmem"])
def test_prefix_of_other_caches_is_kept(
    request: pytest.FixtureRequest, settings: SettingsWrapper, name: str
) -> None:
    with opened(name, request, settings) as one:
        one.store.admit(ask("A"))
        use_cache(settings, {**settings.CACHES["claims"], "KEY_PREFIX": "other"})
        assert claim_store(eager=True).admit(ask("B")).verdict is FREE
        use_cache(settings, {**settings.CACHES["claims"], "KEY_PREFIX": "", "VERSION": 2})
        assert claim_store(eager=True).admit(ask("C")).verdict is FREE


def test_databases_of_one_server_do_not_meet(settings: SettingsWrapper, store_server: RedisServer) -> None:
    store_server.flush()
    use_cache(settings, redis_options("django-redis", store_server.database(0)))
    claim_store().admit(ask("A"))
    use_cache(settings, redis_options("django-redis", store_server.database(5)))
    assert claim_store().admit(ask("B")).verdict is FREE
