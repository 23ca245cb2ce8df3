"""Many calls at once: results in order, one check before the first is sent, few round trips."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery.result import EagerResult
from kombu.exceptions import EncodeError

from django_celery_extensions import chunks
from django_celery_extensions.calls import Prepared
from django_celery_extensions.exceptions import InvalidOption, ManyNotSent, UniqueTaskConflict
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.testing import capture_tasks
from tests.project import tasks
from tests.project.celery import app
from tests.proxy import Proxy
from tests.settings import redis_cache
from tests.unit.conftest import needs_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Declare, Heard, Queue

TRIGGERED, UNIQUE, IGNORED, WAITING = Outcome.TRIGGERED, Outcome.UNIQUE, Outcome.IGNORED, Outcome.WAITING


@pytest.fixture
def in_threes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls share a round trip."""
    monkeypatch.setattr(chunks, "CHUNK", 3)


def body(x: Any = None, y: Any = None) -> Any:
    return x


def outcomes(results: list[Any]) -> list[Outcome]:
    return [result.outcome for result in results]


# what is called


def test_each_call_is_sent_in_order(queue: Queue, in_threes: None) -> None:
    results = tasks.add.delay_many((number, 1) for number in range(8))
    assert queue.ids() == [result.id for result in results]
    assert [message.args for message in queue.messages()] == [[number, 1] for number in range(8)]
    assert outcomes(results) == [TRIGGERED] * 8
    assert len({result.invocation_id for result in results}) == 8


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ((("a",), {"y": 1}), (["a"], {"y": 1})),
        ((["a"], None), (["a"], {})),
        ((None, {"x": 1}), ([], {"x": 1})),
        ((None, None), ([], {})),
        (("a",), (["a"], {})),
        (["a", "b"], (["a", "b"], {})),
        ((), ([], {})),
        (("a", "b"), (["a", "b"], {})),
        ((["a"], "b"), ([["a"], "b"], {})),
        ([["a"], {"y": 1}], ([["a"], {"y": 1}], {})),  # a list is always args alone
    ],
)
def test_call_is_args_and_kwargs_or_args_alone(
    queue: Queue, declare: Declare, call: Any, arguments: Any
) -> None:
    declare(body).apply_async_many([call])
    (message,) = queue.messages()
    assert (message.args, message.kwargs) == arguments


def test_arguments_of_delay_many_are_never_a_pair(queue: Queue, declare: Declare) -> None:
    declare(body).delay_many([(["a"], {"y": 1})])
    (message,) = queue.messages()
    assert (message.args, message.kwargs) == ([["a"], {"y": 1}], {})


def test_none_at_all(queue: Queue) -> None:
    told: list[Any] = []
    assert tasks.silent.delay_many([], progress=lambda *numbers: told.append(numbers)) == []
    assert tasks.silent.apply_async_many(iter(())) == []
    assert (queue.ids(), told) == ([], [])


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "queue and priority": {"queue": "other", "priority": 3},
    "exchange": {"exchange": "named", "routing_key": "key"},
    "countdown": {"countdown": 100},
    "expires": {"expires": 200, "shadow": "shadowed", "time_limit": 20},
    "headers": {"headers": {"mine": 1}, "ignore_result": True},
    "serializer": {"serializer": "yaml"},
    "compression": {"compression": "zlib"},
    "link": {"link": tasks.add.si(1, 2)},
    "retry": {"retry": False},
    "retry policy": {"retry_policy": {"max_retries": 1}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_message_is_that_of_a_single_call(queue: Queue, declare: Declare, options: dict[str, Any]) -> None:
    with queue.live.broker.client() as client:
        client.sadd("_kombu.binding.named", "key\x06\x16\x06\x16celery")  # the exchange knows a queue
    task = declare(body)
    task.apply_async(("a",), {"y": 1}, **options)
    task.apply_async_many([(("a",), {"y": 1}), (("a",), {"y": 1})], **options)
    with queue.live.broker.client() as client:
        keys = [key for key in client.scan_iter() if client.type(key) == b"list"]
        (key,) = keys
        assert client.llen(key) == 3
        first, *others = [_comparable(raw) for raw in reversed(client.lrange(key, 0, -1))]
    assert others == [first, first]


def _comparable(raw: bytes) -> Any:
    import json

    message = json.loads(raw)
    for name in ("id", "root_id", "eta", "expires"):
        message["headers"][name] = bool(message["headers"][name])
    for name in ("correlation_id", "delivery_tag"):
        message["properties"].pop(name)
    return message


@needs_batches
@pytest.mark.parametrize("prefix", ["", "prefixed:"])
def test_queues_of_every_kind(queue: Queue, declare: Declare, settings: Any, prefix: str) -> None:
    """Messages to a queue that expires and to one that every worker has a copy of are more than one command."""
    from kombu import Queue as KombuQueue
    from kombu.common import Broadcast

    from tests.live import forget_connections

    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": prefix}
    forget_connections(app)
    app.conf.task_queues = [KombuQueue("celery"), KombuQueue("short", expires=100), Broadcast("all")]
    task = declare(body)
    with app.producer_or_acquire() as producer:
        app.amqp.queues["all"].exchange(producer.channel).declare()
    with queue.live.broker.client(decode_responses=True) as client, client.pubsub() as listener:
        listener.psubscribe("*all*")  # not the heartbeats of workers
        assert listener.get_message(timeout=5)["type"] == "psubscribe"
        task.apply_async_many([("a",), ("b",), ("c",)], queue="short")
        task.apply_async_many([("a",), ("b",)])
        task.apply_async_many([("a",), ("b",)], queue="all")
        assert [client.llen(f"{prefix}{name}") for name in ("short", "celery")] == [3, 2]
        assert 0 < client.pttl(f"{prefix}short") <= 100_000
        (mark,) = client.keys("*django_celery_extensions.sent*")
        assert mark.startswith(f"{prefix}django")
        assert 0 < client.ttl(mark) <= 600
        told = [listener.get_message(timeout=5) for _ in range(2)]
        assert [each["type"] for each in told] == ["pmessage"] * 2
        assert told[0]["channel"].startswith(prefix)


@needs_batches
def test_large_messages_go_out_earlier(
    queue: Queue, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declare(body)
    monkeypatch.setattr(chunks, "MOST_BYTES", 10_000)
    task.delay_many([("warm",), ("up",)])
    with queue.live.broker.counting() as counted:
        task.delay_many([("x" * 1000,) for _ in range(20)])
    assert 2 <= counted["evalsha"] <= 6
    assert len(queue.ids()) == 22


# checked first


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ((1, 2, 3), TypeError),
        (5, TypeError),
        ("ab", TypeError),
        ((object(),), (InvalidOption, EncodeError)),
        (((1,), {"z": 1}), TypeError),
    ],
)
@pytest.mark.parametrize("unique", [True, False])
def test_nothing_is_claimed_sent_or_told_where_one_call_is_wrong(
    queue: Queue, declare: Declare, heard: Heard, in_threes: None, unique: bool, wrong: Any, error: Any
) -> None:
    task = declare(body, unique=unique)
    with pytest.raises(error):
        task.apply_async_many([("a",), ("b",), ("c",), ("d",), wrong])
    assert (queue.ids(), heard.names) == ([], [])
    with queue.live.store.client() as client:
        assert client.dbsize() == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")
def test_wrong_call_is_named(declare: Declare) -> None:
    with pytest.raises(TypeError) as raised:
        declare(body).apply_async_many([("a",), ("b",), (1, 2, 3)])
    assert raised.value.__notes__ == ["in call 2 of many"]


@pytest.mark.parametrize("options", [{"task_id": "x"}, {"countdown": "soon"}, {"stale_time_limit": -1}])
def test_wrong_option_is_refused(queue: Queue, options: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(options))):
        tasks.silent.apply_async_many([("a",)], **options)
    assert queue.ids() == []


# duplicates


def test_duplicates_in_the_list_join_the_first(queue: Queue, in_threes: None) -> None:
    active = tasks.silent.delay("z")
    results = tasks.silent.delay_many([("a",), ("b",), ("a",), ("z",), ("b",), ("c",)])
    a, b, again_a, z, again_b, c = results
    assert outcomes(results) == [TRIGGERED, TRIGGERED, UNIQUE, UNIQUE, UNIQUE, TRIGGERED]
    assert (again_a.id, again_b.id, z.id) == (a.id, b.id, active.id)
    assert queue.ids() == [active.id, a.id, b.id, c.id]


def test_duplicates_are_skipped(queue: Queue, in_threes: None) -> None:
    results = tasks.silent.apply_async_many(
        [("a",), ("a",), ("b",), ("c",), ("b",)], unique_on_conflict="skip"
    )
    assert outcomes(results) == [TRIGGERED, IGNORED, TRIGGERED, TRIGGERED, IGNORED]
    assert len(queue.ids()) == 3


def test_newest_replaces_those_before_it(queue: Queue, declare: Declare, in_threes: None) -> None:
    task = declare(body, unique=True, unique_keys=("x",))
    results = task.apply_async_many(
        [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)], unique_on_conflict="replace"
    )
    assert outcomes(results) == [TRIGGERED] * 5
    assert len(queue.ids()) == 5
    from django_celery_extensions.stores import claim_store

    with queue.live.store.client() as client:
        held = {client.hget(key, "task") for key in client.keys("*") if client.hexists(key, "task")}
    assert held == {results[3].id.encode(), results[4].id.encode()}
    assert claim_store().atomic


def test_conflict_ends_the_list_as_it_ends_a_loop(queue: Queue, in_threes: None) -> None:
    calls = [("a",), ("b",), ("c",), ("d",), ("b",), ("e",), ("f",), ("g",)]
    with pytest.raises(ManyNotSent, match="4 of 8 calls of .*silent were not sent") as raised:
        tasks.silent.apply_async_many(calls, unique_on_conflict="raise")
    error = raised.value
    assert isinstance(error.__cause__, UniqueTaskConflict)
    assert error.__cause__.task_id == error.results[1].id
    assert (error.not_sent, error.uncertain) == ([4, 5, 6, 7], [])
    assert queue.ids() == [result.id for result in error.results[:4]]
    assert [tasks.silent.is_processing((key,)) for key in "abcdefg"] == [True] * 4 + [False] * 3


def test_conflict_of_the_last_one_is_told_the_same_way(queue: Queue) -> None:
    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.apply_async_many([("a",), ("b",), ("a",)], unique_on_conflict="raise")
    assert raised.value.not_sent == [2]


def test_calls_within_their_window_are_ignored(queue: Queue, ignored: Any) -> None:
    results = ignored.delay_many([(), ("b",), ()])
    assert outcomes(results) == [IGNORED, TRIGGERED, IGNORED]
    assert queue.ids() == [results[1].id]


# hooks


def test_hooks_are_told_call_by_call(queue: Queue, heard: Heard, in_threes: None) -> None:
    tasks.silent.delay_many([("a",), ("a",), ("b",), ("c",)])
    assert heard.names == [
        *["invocation_applied"] * 4,
        *["invocation_triggered", "invocation_unique", "invocation_triggered", "invocation_triggered"],
    ]
    results = [arguments["result"] for _, arguments in heard.events]
    assert results[:4] == results[4:]


def test_message_goes_out_after_the_hook_was_told_and_before_the_next_chunk(
    queue: Queue, declare: Declare, in_threes: None
) -> None:
    from django_celery_extensions import signals

    seen: list[int] = []

    def look(**_: Any) -> None:
        seen.append(len(queue.ids()))

    signals.invocation_triggered.connect(look)
    try:
        declare(body).delay_many([(number,) for number in range(7)])
    finally:
        signals.invocation_triggered.disconnect(look)
    assert seen == [0, 0, 0, 3, 3, 3, 6]


def test_hook_may_call_tasks_itself_whatever_the_size_of_the_pool(
    queue: Queue, declare: Declare, in_threes: None
) -> None:
    """Naive: sent through the producer of the list, or waiting for one that the list has."""
    from django_celery_extensions import signals

    app.conf.broker_pool_limit = 1
    task = declare(body)

    def call_another(task: Any, **_: Any) -> None:
        if task.name != tasks.add.name:
            nested.append(tasks.add.delay(1, 2))

    nested: list[Any] = []
    signals.invocation_triggered.connect(call_another)
    try:
        results = task.delay_many([(number,) for number in range(4)])
    finally:
        signals.invocation_triggered.disconnect(call_another)
    one, two, three, four = results
    a, b, c, d = nested
    assert queue.ids() == [each.id for each in (a, b, c, one, two, three, d, four)]


# progress


def test_progress_is_told(queue: Queue, in_threes: None) -> None:
    told: list[Any] = []

    def note(done: int, total: int) -> None:
        told.append((done, total, len(queue.ids())))

    tasks.add.delay_many(((number, 1) for number in range(7)), progress=note)
    assert told == [(3, 7, 3), (6, 7, 6), (7, 7, 7)]


def test_progress_that_raises_ends_the_list(queue: Queue, in_threes: None) -> None:
    def give_up(done: int, total: int) -> None:
        raise KeyError(done)

    with pytest.raises(ManyNotSent) as raised:
        tasks.silent.delay_many(((number,) for number in range(7)), progress=give_up)
    assert raised.value.not_sent == [3, 4, 5, 6]
    assert len(queue.ids()) == 3
    with pytest.raises(KeyError):  # all were sent: no news about that
        tasks.silent.delay_many([("a",), ("b",), ("c",)], progress=give_up)


# eager, captured


def test_eager_calls_run_one_after_the_other() -> None:
    told: list[Any] = []
    results = tasks.silent.delay_many([("a",), ("b",), ("a",)], progress=lambda *at: told.append(at))
    assert outcomes(results) == [TRIGGERED] * 3  # the first had ended when the third was called
    assert all(isinstance(result, EagerResult) for result in results)
    assert [result.get() for result in results] == ["a", "b", "a"]
    assert told == [(3, 3)]


def test_captured_calls_go_to_no_broker(queue: Queue) -> None:
    with capture_tasks() as outbox:
        results = tasks.silent.delay_many([("a",), ("b",), ("a",)])
    assert [sent.args for sent in outbox] == [("a",), ("b",)]
    assert outcomes(results) == [TRIGGERED, TRIGGERED, UNIQUE]
    assert [sent.result for sent in outbox] == results[:2]
    assert queue.ids() == []


# what it costs


@pytest.fixture
def proxies(queue: Queue, settings: Any) -> Iterator[tuple[Proxy, Proxy]]:
    """The way to the broker and the way to the store."""
    from tests.live import forget_connections

    with Proxy(queue.live.broker.port) as broker, Proxy(queue.live.store.port) as store:
        settings.CELERY_BROKER_URL = broker.database(0)
        settings.CACHES = {**settings.CACHES, "default": redis_cache(store.database(0))}
        forget_connections(app)
        yield broker, store
        forget_connections(app)


@needs_batches
@pytest.mark.parametrize("transport_options", [{}, {"retry_on_timeout": True, "socket_timeout": 30}])
def test_ten_thousand_unique_calls_are_tens_of_round_trips(
    queue: Queue, proxies: tuple[Proxy, Proxy], settings: Any, transport_options: dict[str, Any]
) -> None:
    """Naive: kombu does not batch at all where the connection may repeat a command."""
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = transport_options
    number = 2000 if transport_options else 10_000
    tasks.silent.apply_async_many([("warm",), ("up",)], ignore_result=True)
    before = [proxy.trips for proxy in proxies]
    results = tasks.silent.apply_async_many(((each,) for each in range(number)), ignore_result=True)
    assert queue.live.queued() == number + 2
    assert {result.outcome for result in results} == {TRIGGERED}
    broker, store = [proxy.trips - count for proxy, count in zip(proxies, before, strict=True)]
    # Twice: a server may answer the first commands of a pipeline while the last are still on their way.
    assert broker <= number / 500 * 2
    assert store <= number / 500 * 2


def test_what_was_sent_is_held_no_longer(queue: Queue, in_threes: None) -> None:
    def prepared() -> int:
        gc.collect()
        return sum(type(each) is Prepared for each in gc.get_objects())

    held: list[int] = []
    before = prepared()

    def look(done: int, total: int) -> None:
        held.append(prepared() - before)

    results = tasks.silent.delay_many(((number,) for number in range(9)), progress=look)
    assert held == [6, 3, 0]
    assert len(results) == 9


def test_calls_of_an_own_producer_or_connection(queue: Queue, declare: Declare) -> None:
    task = declare(body)
    with app.connection_for_write() as connection, app.connection_for_write() as other:
        by_connection = task.apply_async_many([("a",), ("b",)], connection=connection)
        producer = app.amqp.Producer(other)
        by_producer = task.apply_async_many([("c",), ("d",)], producer=producer)
        assert connection.connected
        assert other.connected
    assert queue.ids() == [result.id for result in by_connection + by_producer]


@needs_batches
def test_many_within_a_batch_of_the_caller(queue: Queue, declare: Declare) -> None:
    task = declare(body)
    with app.producer_or_acquire() as producer, producer.batch():
        first = task.apply_async(("a",), producer=producer)
        results = task.apply_async_many([("b",), ("c",)], producer=producer)
        assert queue.ids() == [first.id, *(result.id for result in results)]
        task.apply_async(("d",), producer=producer)
    assert len(queue.ids()) == 4


@pytest.mark.parametrize("transport", ["memory://", "filesystem://"])
def test_other_transports_take_them_one_by_one(
    queue: Queue, settings: Any, tmp_path: Any, transport: str
) -> None:
    from tests.live import forget_connections

    folder = str(tmp_path)
    settings.CELERY_BROKER_URL = transport
    folders = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": f"{folder}/control"}
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = folders
    forget_connections(app)
    results = tasks.silent.apply_async_many([("a",), ("b",), ("a",)], queue="of-this-test")
    assert outcomes(results) == [TRIGGERED, TRIGGERED, UNIQUE]
    with app.connection_for_read() as connection, connection.SimpleQueue("of-this-test") as waiting:
        found = [waiting.get(timeout=5).headers["id"] for _ in range(2)]
    # Files of one millisecond are in no order.
    assert sorted(found) == sorted(each.id for each in results[:2])
