"""Many calls, and a broker or a store that goes away among them: no claim is left, and each call knows its fate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kombu import exceptions

from django_celery_extensions import chunks, signals
from django_celery_extensions.exceptions import ManyNotSent, StoreUnavailable
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Verdict
from django_celery_extensions.task import DjangoTask
from tests.live import forget_connections
from tests.project import tasks
from tests.project.celery import app
from tests.proxy import Proxy
from tests.servers import RedisServer
from tests.settings import redis_cache
from tests.unit.conftest import needs_batches
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeServer
    from tests.unit.conftest import Declare, Queue

TRIGGERED, UNIQUE, WAITING, UNCERTAIN = Outcome.TRIGGERED, Outcome.UNIQUE, Outcome.WAITING, Outcome.UNCERTAIN
#: What only a batch of ours has in it.
BATCH = b"django_celery_extensions.sent"

pytestmark = needs_batches


@pytest.fixture(autouse=True)
def in_threes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 3)


@pytest.fixture
def network(queue: Queue, settings: SettingsWrapper) -> Iterator[Proxy]:
    """The way to the broker."""
    with Proxy(queue.live.broker.port) as proxy:
        use_broker(settings, proxy.database(0))
        tasks.silent.apply_async(("warm-up",))  # connected, queue declared
        tasks.silent.apply_async_many([("warm",), ("up",)])
        with queue.live.broker.client() as client:
            client.delete("celery")
        yield proxy
        forget_connections(app)


def use_broker(settings: SettingsWrapper, url: str, **transport_options: Any) -> None:
    settings.CELERY_BROKER_URL = url
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = transport_options
    forget_connections(app)


def outcomes(results: Any) -> list[Outcome]:
    return [result.outcome for result in results]


def processing(keys: str) -> list[bool]:
    return [tasks.silent.is_processing((key,)) for key in keys]


KEYS = "abcdefgh"
CALLS = [(key,) for key in KEYS]

# A connection that breaks, and a broker that is there again.


@pytest.mark.parametrize("lost", ["reply", "request"])
@pytest.mark.parametrize("times", [1, 3])
def test_batch_is_sent_once_whatever_the_connection_loses(
    queue: Queue, network: Proxy, lost: str, times: int
) -> None:
    """Naive: a batch that is repeated goes out twice where the reply was lost; one that is not, never."""
    network.lose(lost, BATCH, times)
    results = tasks.silent.delay_many(CALLS)
    assert network.lost == times
    assert queue.ids() == [result.id for result in results]
    assert outcomes(results) == [TRIGGERED] * 8


def test_attempt_that_arrives_late_does_nothing(queue: Queue, network: Proxy) -> None:
    """Naive: the second attempt looks for a mark, finds none, and the first one arrives after it."""
    network.lose("late", BATCH)
    results = tasks.silent.delay_many(CALLS)
    network.release()
    assert queue.ids() == [result.id for result in results]


def test_plain_kombu_batch_repeats_nothing(queue: Queue, network: Proxy, declare: Declare) -> None:
    """Why a batch is not kombu's here: retry=True of its messages does not help it."""
    plain = declare(body)
    network.lose("request", b"LPUSH")

    def send_all() -> None:
        with app.producer_or_acquire() as producer, producer.batch():
            for key in KEYS:
                plain.send((key,), {}, producer=producer, retry=True)

    with pytest.raises(exceptions.BatchPublishError):
        send_all()
    assert queue.ids() == []


def body(x: Any = None) -> Any:
    return x


# A connection that breaks for good.


def test_lost_reply_without_retries_is_uncertain(queue: Queue, network: Proxy) -> None:
    network.lose("reply", BATCH, 1)
    with pytest.raises(ManyNotSent, match="5 of 8 calls .* and 3 may or may not have been") as raised:
        tasks.silent.apply_async_many(CALLS, retry=False)
    error = raised.value
    assert isinstance(error.__cause__, exceptions.OperationalError)
    assert outcomes(error.results) == [UNCERTAIN] * 3 + [WAITING] * 5
    assert (error.uncertain, error.not_sent) == ([0, 1, 2], [3, 4, 5, 6, 7])
    assert processing(KEYS) == [False] * 8
    assert queue.ids() == [result.id for result in error.results[:3]]  # as it happens


def test_retries_are_those_of_the_policy(queue: Queue, network: Proxy) -> None:
    network.lose("request", BATCH, 3)
    with pytest.raises(ManyNotSent):
        tasks.silent.apply_async_many(CALLS, retry_policy={"max_retries": 2, "interval_start": 0})
    assert network.lost == 3
    results = tasks.silent.apply_async_many(CALLS)
    assert queue.ids() == [result.id for result in results]


def at_call(number: int, do: Callable[[], object]) -> Any:
    """A receiver that does something when that call is about to be sent."""
    told = iter(range(1000))

    def receiver(**_: Any) -> None:
        if next(told) == number:
            do()

    return receiver


@pytest.fixture
def when_triggered() -> Iterator[Callable[[int, Callable[[], object]], None]]:
    receivers: list[Any] = []

    def connect(number: int, do: Callable[[], object]) -> None:
        receivers.append(at_call(number, do))
        signals.invocation_triggered.connect(receivers[-1])

    yield connect
    for receiver in receivers:
        signals.invocation_triggered.disconnect(receiver)


@pytest.fixture
def broker(queue: Queue, make_server: MakeServer, settings: SettingsWrapper) -> Iterator[RedisServer]:
    """A broker of this test's own, that does not let its clients wait for ever."""
    server: RedisServer = make_server(RedisServer)
    use_broker(settings, server.url, socket_timeout=0.3, socket_connect_timeout=0.3)
    app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.05}
    yield server
    server.thaw()
    forget_connections(app)


def sent_to(server: RedisServer) -> list[str]:
    import json

    with server.client() as client:
        return [json.loads(raw)["headers"]["id"] for raw in reversed(client.lrange("celery", 0, -1))]


def test_broker_killed_among_them(
    broker: RedisServer, when_triggered: Callable[[int, Callable[[], object]], None]
) -> None:
    when_triggered(4, broker.kill)  # in the second chunk
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS)
    error = raised.value
    first, second = outcomes(error.results)[:3], set(outcomes(error.results)[3:6])
    assert first == [TRIGGERED] * 3
    # The first attempt may have found a connection that was still open on our side.
    assert second in ({WAITING}, {UNCERTAIN})
    assert outcomes(error.results)[6:] == [WAITING] * 2
    assert sorted([*error.not_sent, *error.uncertain]) == [3, 4, 5, 6, 7]
    assert processing(KEYS) == [True] * 3 + [False] * 5
    broker.restart()
    again = tasks.silent.delay_many(CALLS[3:])
    assert outcomes(again) == [TRIGGERED] * 5
    assert sent_to(broker) == [result.id for result in again]


def test_broker_frozen_among_them(
    broker: RedisServer, when_triggered: Callable[[int, Callable[[], object]], None]
) -> None:
    when_triggered(4, broker.freeze)
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS)
    error = raised.value
    assert outcomes(error.results) == [TRIGGERED] * 3 + [UNCERTAIN] * 3 + [WAITING] * 2
    assert processing(KEYS) == [True] * 3 + [False] * 5
    broker.thaw()
    # Whatever it finds in its buffers when it wakes up: nothing twice.
    ids = [result.id for result in error.results]
    wait_until(lambda: len(sent_to(broker)) >= 3, what="the broker is awake")
    again = tasks.silent.delay_many(CALLS)
    assert outcomes(again) == [UNIQUE] * 3 + [TRIGGERED] * 5
    sent = sent_to(broker)
    assert sent[:3] == ids[:3]
    assert [each for each in sent if each in ids[3:]] in ([], ids[3:6])
    assert [each for each in sent if each not in ids] == [result.id for result in again[3:]]


def test_uncertain_message_that_came_through_runs_unless_another_has_its_key(
    queue: Queue, network: Proxy
) -> None:
    """What the worker does with it: the claim was ended, so it is made at the start, or refused."""
    network.lose("reply", BATCH, 1)
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.apply_async_many(CALLS[:3], retry=False)
    again = tasks.silent.delay("a")
    assert again.outcome is TRIGGERED
    a, b = raised.value.results[:2]
    messages = {message.task_id: message for message in queue.messages()}
    store = claim_store()
    name = messages[a.id].headers["dce"]["name"]
    late = store.start(Ask(name=name, task_id=a.id, token="t", claim=60))
    assert (late.verdict, late.task_id) == (Verdict.HELD, again.id)
    name = messages[b.id].headers["dce"]["name"]
    assert store.start(Ask(name=name, task_id=b.id, token="t", claim=60)).verdict is Verdict.FREE


def test_one_that_joined_a_call_of_the_list_shares_its_fate(queue: Queue, network: Proxy) -> None:
    network.lose("reply", BATCH, 1)
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.apply_async_many([("a",), ("a",), ("b",), ("c",)], retry=False)
    assert raised.value.uncertain == [0, 1, 2]
    assert raised.value.not_sent == [3]


def test_task_that_was_replaced_gets_its_claim_back(
    queue: Queue, network: Proxy, settings: SettingsWrapper
) -> None:
    queued = tasks.silent.delay("a")
    network.lose("request", BATCH, 1)
    with pytest.raises(ManyNotSent):
        tasks.silent.apply_async_many(
            [("a",), ("a",), ("b",), ("b",)], retry=False, unique_on_conflict="replace"
        )
    assert tasks.silent.apply_async(("a",)).id == queued.id
    assert processing("b") == [False]


def test_broker_that_was_never_there(queue: Queue, settings: SettingsWrapper) -> None:
    use_broker(settings, "redis://127.0.0.1:1/0")
    app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.05}
    for options in ({}, {"retry": False}):
        with pytest.raises(ManyNotSent) as raised:
            tasks.silent.apply_async_many(CALLS, **options)
        assert isinstance(raised.value.__cause__, exceptions.OperationalError)
        assert raised.value.not_sent == list(range(8))
        assert processing(KEYS) == [False] * 8


def test_broker_that_refuses(queue: Queue, make_server: MakeServer, settings: SettingsWrapper) -> None:
    server = make_server(RedisServer, "--maxmemory", "1mb")
    use_broker(settings, server.url)
    with pytest.raises(ManyNotSent, match="maxmemory") as raised:
        tasks.silent.delay_many(CALLS)
    assert raised.value.not_sent == list(range(8))
    assert processing(KEYS) == [False] * 8


def test_message_that_cannot_be_built_stops_those_after_it(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(self: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        if args == ("e",):
            raise KeyError(args)
        return original(self, args, kwargs, **options)

    original = DjangoTask.send
    monkeypatch.setattr(DjangoTask, "send", send)
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS)
    assert raised.value.not_sent == [4, 5, 6, 7]
    assert queue.ids() == [result.id for result in raised.value.results[:4]]
    assert processing(KEYS) == [True] * 4 + [False] * 4


class Interrupted(BaseException):
    """Ctrl-C at a bad moment."""


def interrupt() -> None:
    raise Interrupted


def test_interrupted_list_leaves_no_claim(
    queue: Queue, when_triggered: Callable[[int, Callable[[], object]], None]
) -> None:
    when_triggered(4, interrupt)
    with pytest.raises(Interrupted):
        tasks.silent.delay_many(CALLS)
    assert processing(KEYS) == [True] * 4 + [False] * 4
    assert len(queue.ids()) == 4


# scripts that the broker does not run


@pytest.fixture
def without_scripts(
    queue: Queue, make_server: MakeServer, settings: SettingsWrapper
) -> Iterator[tuple[RedisServer, Proxy]]:
    server: RedisServer = make_server(RedisServer)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-@scripting")
    with Proxy(server.port) as proxy:
        use_broker(settings, proxy.database(0))
        yield server, proxy
        forget_connections(app)


def test_broker_that_runs_no_scripts_gets_pipelines(without_scripts: tuple[RedisServer, Proxy]) -> None:
    server, _ = without_scripts
    results = tasks.silent.delay_many(CALLS)
    assert sent_to(server) == [result.id for result in results]


def test_pipeline_is_not_repeated(without_scripts: tuple[RedisServer, Proxy]) -> None:
    server, network = without_scripts
    tasks.silent.delay_many([("x",), ("y",)])
    network.lose("reply", b"lpush", 2)
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS)
    assert raised.value.uncertain == [0, 1, 2]
    assert network.lost == 1
    assert len(sent_to(server)) == 5


# stores


@pytest.fixture
def store(make_server: MakeServer, settings: SettingsWrapper) -> RedisServer:
    """A store of this test's own."""
    server: RedisServer = make_server(RedisServer)
    cache = redis_cache(server.url)
    cache["OPTIONS"]["SOCKET_TIMEOUT"] = cache["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] = 0.3
    settings.CACHES = {**settings.CACHES, "default": cache}
    return server


def test_store_that_goes_away_among_them(queue: Queue, store: RedisServer) -> None:
    def kill(done: int, total: int) -> None:
        if done == 3:
            store.kill()

    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS, progress=kill)
    assert isinstance(raised.value.__cause__, StoreUnavailable)
    assert raised.value.not_sent == [3, 4, 5, 6, 7]
    assert queue.ids() == [result.id for result in raised.value.results[:3]]


def test_claims_that_a_frozen_store_made_are_ended_when_it_is_back(queue: Queue, store: RedisServer) -> None:
    """Naive: the store had them in its buffer, and keeps them for a day."""
    tasks.silent.delay_many([("x",), ("y",)])  # scripts are known
    asked = store.commands()["evalsha"]
    with store.frozen(), pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(CALLS)
    assert isinstance(raised.value.__cause__, StoreUnavailable)
    assert raised.value.not_sent == list(range(8))
    wait_until(lambda: store.commands()["evalsha"] >= asked + 2, what="what was in its buffer is carried out")
    wait_until(lambda: processing(KEYS) == [False] * 8, timeout=10, what="the claims are ended")
    assert outcomes(tasks.silent.delay_many(CALLS)) == [TRIGGERED] * 8


def test_calls_may_go_without_a_claim(queue: Queue, store: RedisServer) -> None:
    tasks.silent.delay_many([("x",), ("y",)])
    store.kill()
    results = tasks.silent.apply_async_many(CALLS, unique_on_store_error="publish")
    assert outcomes(results) == [TRIGGERED] * 8
    assert not any(message.headers["dce"].get("claimed") for message in queue.messages()[2:])


def test_claims_of_a_broker_outage_are_owed_by_a_store_outage(
    broker: RedisServer, store: RedisServer, when_triggered: Callable[[int, Callable[[], object]], None]
) -> None:
    """The broker and the store are often one server."""
    tasks.silent.delay_many([("x",), ("y",)])

    def freeze_both() -> None:
        broker.freeze()
        store.freeze()

    when_triggered(0, freeze_both)
    with pytest.raises(ManyNotSent):
        tasks.silent.delay_many(CALLS)
    store.thaw()
    wait_until(lambda: processing(KEYS) == [False] * 8, timeout=10, what="the claims are ended")
