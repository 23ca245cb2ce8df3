"""The short way of a message: the same on the wire as Celery's own, and Celery's own wherever that is needed."""

from __future__ import annotations

import base64
import functools
import json
import os
import pkgutil
import re
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import celery.app.task
import kombu
import pytest
from celery import signals
from celery._state import _task_stack
from celery.app.amqp import AMQP
from celery.utils.saferepr import saferepr
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kombu.exceptions import EncodeError, OperationalError

from django_celery_extensions import publishing, texts
from django_celery_extensions.forms import shown
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.live import Live
    from tests.unit.conftest import Declare

ID = "00000000-0000-4000-8000-000000000000"


class Wire:
    """What is put on the broker of `live_app`, and by which way."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.short = 0

    def since(self, call: Callable[[], Any]) -> dict[str, list[str]]:
        """Return the raw messages by queue that a call puts there; each delivery has a tag of its own."""
        with self.live.broker.client(self.live.broker_database) as client:
            for key in self._queues(client):
                client.delete(key)
            call()
            return {
                key.decode(): [
                    re.sub(r'("delivery_tag": )"[^"]*"', r'\1"*"', raw.decode())
                    for raw in client.lrange(key, 0, -1)
                ]
                for key in self._queues(client)
            }

    def _queues(self, client: Any) -> list[bytes]:
        return [key for key in client.scan_iter() if client.type(key) == b"list"]


@pytest.fixture
def wire(live_app: Live, monkeypatch: pytest.MonkeyPatch) -> Wire:
    found = Wire(live_app)
    publish = publishing._publish

    def counted(*arguments: Any) -> bool:
        sent = publish(*arguments)
        found.short += sent
        return sent

    monkeypatch.setattr(publishing, "_publish", counted)
    return found


@pytest.fixture
def task(live_app: Live, declare: Declare) -> Any:
    def body(*args: Any, **kwargs: Any) -> None:
        pass

    return declare(body)


def by_celery(task: Any, args: Any, kwargs: Any, **options: Any) -> Any:
    return celery.app.task.Task.apply_async(task, args, kwargs, **options)


def learned(task: Any, *args: Any, **options: Any) -> None:
    """Send a message of this kind, so that the next one can be sent the short way."""
    task.send(args, {}, task_id=ID, **options)


@contextmanager
def running(task: Any, **request: Any) -> Iterator[None]:
    """Be in the body of a task that a worker runs."""
    task.push_request(id="parent", called_directly=False, **request)
    _task_stack.push(task)
    try:
        yield
    finally:
        _task_stack.pop()
        task.pop_request()


# --- the same on the wire ---------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.dates()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(["dce", "x", "id", "stamps", "timelimit", "shadow", "lang"]), VALUES
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(["celery", "other", "ünïcode"]),
        "priority": st.sampled_from([None, 0, 3, 9, 12, True]),
        "serializer": st.sampled_from(["json", "pickle"]),
        "ignore_result": st.booleans(),
        "time_limit": st.none() | st.integers(1, 100) | st.floats(1, 100),
        "soft_time_limit": st.none() | st.integers(1, 100),
        "delivery_mode": st.sampled_from([1, 2, None]),
        "retry": st.booleans(),
        "routing_key": st.sampled_from(["celery", "other"]),
        "exchange": st.sampled_from(["", "elsewhere"]),
        "headers": st.none() | HEADERS,
        "countdown": st.none(),
        "shadow": st.just("shadow"),
        "compression": st.sampled_from([None, "zlib"]),
        "mandatory": st.booleans(),
    },
)


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    args=st.none() | st.lists(VALUES, max_size=3) | st.tuples(VALUES),
    kwargs=st.none() | st.dictionaries(st.text(), VALUES, max_size=3),
    options=OPTIONS,
    parent=st.none() | st.sampled_from([None, "root"]),
)
def test_short_way_puts_the_same_on_the_wire(
    wire: Wire, task: Any, args: Any, kwargs: Any, options: dict[str, Any], parent: str | None
) -> None:
    def send(way: Callable[..., Any]) -> Any:
        return wire.since(lambda: way(args, kwargs, task_id=ID, **options))

    with running(task, root_id=parent, children=[]) if parent else mock.MagicMock():
        theirs = send(lambda *args, **options: by_celery(task, *args, **options))
        assert [send(task.send) for _ in range(3)] == [theirs] * 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queue": "other"},
        {"priority": 3},
        {"serializer": "pickle"},
        {"ignore_result": True},
        {"time_limit": 5, "soft_time_limit": 3},
        {"retry": False},
        {"headers": {"x": 1}},
    ],
    ids=str,
)
def test_second_message_of_a_kind_goes_the_short_way(wire: Wire, task: Any, options: dict[str, Any]) -> None:
    learned(task, **options)
    assert wire.short == 0
    theirs = wire.since(lambda: by_celery(task, (1,), {"a": 2}, task_id=ID, **options))
    assert wire.since(lambda: task.send((1,), {"a": 2}, task_id=ID, **options)) == theirs
    assert wire.short == 1


@pytest.mark.parametrize("root", [None, "root"])
def test_call_in_a_body_names_its_parent(wire: Wire, task: Any, root: str | None) -> None:
    learned(task)
    with running(task, root_id=root):
        theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID))
        assert wire.since(lambda: task.send((), {}, task_id=ID)) == theirs
        assert wire.short == 1
        assert [child.id for child in task.request.children] == [ID, ID]


@pytest.mark.parametrize("task_id", ["100%", "%(body)s", 'a "quoted" one', "ünïcode\u2028"])
def test_id_is_not_taken_for_a_part_of_the_form(wire: Wire, task: Any, task_id: str) -> None:
    learned(task, queue="50%")
    theirs = wire.since(lambda: by_celery(task, ("%s",), {}, task_id=task_id, queue="50%"))
    assert wire.since(lambda: task.send(("%s",), {}, task_id=task_id, queue="50%")) == theirs
    assert wire.short == 1


def test_own_header_of_a_later_call_takes_the_place_of_celerys(wire: Wire, task: Any) -> None:
    learned(task)
    learned(task)  # with a text for it
    options = {"task_id": ID, "headers": {"x": "%", "lang": "other"}}
    theirs = wire.since(lambda: by_celery(task, (), {}, **options))
    assert wire.since(lambda: task.send((), {}, **options)) == theirs


def test_body_that_the_broker_shall_not_encode(wire: Wire, live_app: Live, task: Any) -> None:
    live_app.settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"body_encoding": "utf-8"}
    kombu.pools.reset()
    live_app.app._pool = None
    vars(live_app.app).pop("amqp", None)
    learned(task)
    theirs = wire.since(lambda: by_celery(task, ('"ü\\',), {}, task_id=ID))
    assert wire.since(lambda: task.send(('"ü\\',), {}, task_id=ID)) == theirs
    assert wire.short == 1
    assert "\\u00fc" in theirs["celery"][0]


def test_deliveries_have_tags_of_their_own(wire: Wire, live_app: Live, task: Any) -> None:
    """Naive: the tag of the first message is in the form."""
    for _ in range(5):
        task.delay()
    with live_app.broker.client(live_app.broker_database) as client:
        messages = [json.loads(raw) for raw in client.lrange("celery", 0, -1)]
    tags = [message["properties"]["delivery_tag"] for message in messages]
    assert len({str(uuid.UUID(tag, version=4)) for tag in tags} & set(tags)) == 5
    assert wire.short == 4


def test_text_that_kombu_would_make_otherwise_is_kombus(
    wire: Wire, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(task)
    monkeypatch.setattr(texts, "encode_basestring_ascii", lambda value: f'"{value}!"')
    assert wire.since(lambda: task.send((), {}, task_id=ID)) == wire.since(
        lambda: by_celery(task, (), {}, task_id=ID)
    )
    assert wire.short == 0


def test_number_of_texts_is_bounded(
    wire: Wire, live_app: Live, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MOST", 3)
    for limit in [*range(1, 10), *range(1, 10)]:
        learned(task, time_limit=limit)
    with live_app.app.pool.acquire() as connection:
        assert len(vars(connection.default_channel)[texts.TEXTS]) <= 3
    assert wire.short == 9


def test_options_of_the_task_are_in_its_messages(wire: Wire, live_app: Live, declare: Declare) -> None:
    def body() -> None:
        pass

    task = declare(body, serializer="pickle", time_limit=7, ignore_result=True)
    learned(task)
    theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID))
    assert wire.since(lambda: task.send((), {}, task_id=ID)) == theirs
    assert wire.short == 1


def test_static_routes_are_in_the_form(wire: Wire, live_app: Live, task: Any) -> None:
    live_app.settings.CELERY_TASK_ROUTES = {"declared.*": {"queue": "routed", "priority": 3}}
    vars(live_app.app).pop("amqp", None)
    learned(task)
    theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID))
    assert list(theirs) == ["routed\x06\x163"]
    assert wire.since(lambda: task.send((), {}, task_id=ID)) == theirs
    assert wire.short == 1


@pytest.mark.parametrize("first", [None, {"y": 2}])
def test_headers_of_a_static_route_are_those_that_celery_gives(
    wire: Wire, live_app: Live, task: Any, first: dict[str, int] | None
) -> None:
    """Celery lets the headers of a call replace them. Naive: those of the first message are in the form."""
    live_app.settings.CELERY_TASK_ROUTES = {"declared.*": {"queue": "routed", "headers": {"x": 1}}}
    vars(live_app.app).pop("amqp", None)
    learned(task, headers=first)
    for headers in (None, {"y": 2}, {}):
        theirs = wire.since(lambda given=headers: by_celery(task, (), {}, task_id=ID, headers=given))
        assert wire.since(lambda given=headers: task.send((), {}, task_id=ID, headers=given)) == theirs
    assert wire.short == 0


def test_unique_task_has_the_headers_of_its_route_too(wire: Wire, live_app: Live, declare: Declare) -> None:
    """Naive: our own header replaces them."""

    def body(x: int) -> None:
        pass

    task = declare(body, unique=True)
    live_app.settings.CELERY_TASK_ROUTES = {"declared.*": {"headers": {"x": 1}}}
    vars(live_app.app).pop("amqp", None)
    sent = wire.since(lambda: [task.delay(1), task.delay(2), task.apply_async((3,), headers={"y": 2})])
    headers = [json.loads(raw)["headers"] for raw in reversed(sent["celery"])]
    assert [each.get("x") for each in headers] == [1, 1, None]
    assert all(each["dce"]["claimed"] for each in headers)


def test_result_is_the_callers_own(wire: Wire, task: Any) -> None:
    task.delay()
    result = task.delay()
    assert wire.short == 1
    assert result.outcome == "triggered"
    assert not result.ignored
    assert task.apply_async(ignore_result=True).ignored


def test_serialiser_that_took_the_name_of_kombus_is_called(
    wire: Wire, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(task)
    registry = kombu.serialization.registry
    theirs = registry._encoders["json"]
    monkeypatch.setitem(
        registry._encoders, "json", theirs._replace(encoder=lambda _: theirs.encoder(["of theirs"]))
    )
    (messages,) = wire.since(task.delay).values()
    assert wire.short == 1
    assert json.loads(base64.b64decode(json.loads(messages[0])["body"])) == ["of theirs"]


def test_what_cannot_be_serialised_is_refused_as_by_celery(wire: Wire, task: Any) -> None:
    learned(task)
    with pytest.raises(EncodeError):
        task.send((object(),), {}, task_id=ID)
    task.send((), {}, task_id=ID)
    assert wire.short == 1, "the connection has not suffered"


# --- Celery's own way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": 10},
        {"eta": "2040-01-01T00:00:00+00:00"},
        {"expires": 10},
        {"link": "signature"},
        {"chain": []},
        {"root_id": "root"},
        {"shadow": "shadow"},
        {"compression": "zlib"},
        {"exchange": "elsewhere", "routing_key": "there"},
        {"reply_to": "me"},
        {"retries": 1},
        {"retry_policy": {"max_retries": 1}},
        {"stamped_headers": ["x"], "x": 1},
        {"headers": {"id": "mine"}},
    ],
    ids=str,
)
def test_option_that_makes_another_message_is_for_celery(
    wire: Wire, task: Any, options: dict[str, Any]
) -> None:
    if options.get("link"):
        options["link"] = task.si()
    for _ in range(3):
        task.send((), {}, task_id=ID, **options)
    assert wire.short == 0


@pytest.mark.parametrize(
    "signal", [signals.before_task_publish, signals.after_task_publish, signals.task_sent]
)
def test_receiver_that_comes_later_is_told(wire: Wire, task: Any, signal: Any) -> None:
    learned(task)
    heard = []

    def receiver(sender: Any, **_: Any) -> None:
        heard.append(sender)

    signal.connect(receiver)
    try:
        task.delay()
    finally:
        signal.disconnect(receiver)
    assert heard == [task.name]
    task.delay()
    assert wire.short == 1, "and once it is gone the short way is free again"


@pytest.mark.parametrize(
    "target",
    [
        "celery.app.task.Task.apply_async",
        "celery.app.base.Celery.send_task",
        "celery.app.amqp.AMQP.as_task_v2",
        "celery.app.amqp.saferepr",
        "celery.app.amqp.anon_nodename",
        "celery.app.routes.Router.route",
        "celery.app.routes.Router.expand_destination",
        "kombu.messaging.Producer.publish",
        "kombu.messaging.Producer._publish",
        "kombu.transport.redis.Channel._put",
        "kombu.transport.redis.Channel.basic_publish",
        "kombu.transport.redis.Channel.prepare_message",
        "kombu.transport.redis.Channel._inplace_augment_message",
        "kombu.transport.redis.Channel._next_delivery_tag",
        "kombu.transport.redis.Channel._get_message_priority",
        "kombu.transport.redis.Channel._q_for_pri",
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["replaced", "wrapped"])
def test_code_that_somebody_patched_is_used(
    wire: Wire, live_app: Live, task: Any, monkeypatch: pytest.MonkeyPatch, target: str, when: str, how: str
) -> None:
    """As tracing and users' tests do it."""
    if when == "after":
        learned(task)
    place, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(place)
    calls: list[str] = []
    original = vars(owner).get(name) or getattr(owner, name)

    @functools.wraps(original)
    def other(*args: Any, **options: Any) -> Any:
        calls.append(target)
        return original(*args, **options)

    monkeypatch.setattr(owner, name, other if how == "replaced" else Wrapper(other, original))
    vars(live_app.app).pop("amqp", None)  # it keeps what it has found
    task.delay()
    assert calls
    calls.clear()
    task.delay()
    assert calls
    assert wire.short == 0


class Wrapper:
    """A wrapper that says it is what it wraps, as those of wrapt do."""

    def __init__(self, call: Callable[..., Any], wrapped: Any) -> None:
        self._call, self._wrapped = call, wrapped

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(*args, **options)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return (
            Wrapper(functools.partial(self._call, instance), self._wrapped) if instance is not None else self
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def test_app_whose_sending_was_replaced_is_asked(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task)
    with mock.patch.object(live_app.app, "send_task") as send_task:
        task.delay()
    send_task.assert_called_once()


class OtherAMQP(AMQP):
    """Puts a counter into each message, as a project might."""

    count = 0

    def as_task_v2(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        message = super().as_task_v2(*args, **options)
        message.headers["count"] = self.count
        return message


def test_subclass_with_a_way_of_its_own_is_asked(wire: Wire, live_app: Live, task: Any) -> None:
    live_app.app.amqp = OtherAMQP(live_app.app)
    try:
        messages = wire.since(lambda: [task.delay() for _ in range(3)])
    finally:
        del live_app.app.amqp
    assert [json.loads(raw)["headers"]["count"] for raw in messages["celery"]] == [3, 2, 1]
    assert wire.short == 0


def test_task_with_a_way_of_its_own_is_asked(wire: Wire, live_app: Live, declare: Declare) -> None:
    def body(x: int) -> None:
        pass

    def shadow_name(self: Any, args: Any, kwargs: Any, options: Any) -> str:
        return f"shadow {args[0]}"

    task = declare(body, shadow_name=shadow_name)
    messages = wire.since(lambda: [task.delay(number) for number in range(3)])
    assert [json.loads(raw)["headers"]["shadow"] for raw in messages["celery"]] == [
        f"shadow {n}" for n in (2, 1, 0)
    ]
    assert wire.short == 0


def test_base_class_between_is_asked(wire: Wire, live_app: Live, declare: Declare) -> None:
    calls = []

    class Between(celery.app.task.Task):
        abstract = True

        def apply_async(self, *args: Any, **options: Any) -> Any:
            calls.append(args)
            return super().apply_async(*args, **options)

    from django_celery_extensions.task import DjangoTask

    class Ours(DjangoTask, Between):
        abstract = True

    def body() -> None:
        pass

    task = declare(body, base=Ours)
    for _ in range(3):
        task.delay()
    assert len(calls) == 3
    assert wire.short == 0


@pytest.fixture
def one_connection(live_app: Live) -> Iterator[None]:
    """A pool of one connection to the broker."""
    live_app.settings.CELERY_BROKER_POOL_LIMIT = 1
    kombu.pools.reset()
    live_app.app._pool = None
    vars(live_app.app).pop("amqp", None)
    yield
    kombu.pools.set_limit(10, force=True, reset_after=True)


@pytest.mark.usefixtures("one_connection")
def test_router_may_use_the_broker(live_app: Live, task: Any) -> None:
    """Naive: the first message of a kind is sent with a connection that was taken before the router is asked."""

    def route(*_: Any, **__: Any) -> dict[str, str]:
        with live_app.app.connection_or_acquire() as connection:
            connection.default_channel._size("celery")
        return {"queue": "celery"}

    live_app.settings.CELERY_TASK_ROUTES = [route]
    vars(live_app.app).pop("amqp", None)
    assert ends(task.delay)


@pytest.mark.usefixtures("one_connection")
def test_base_class_between_may_send_something_else(live_app: Live, task: Any, declare: Declare) -> None:
    from django_celery_extensions.task import DjangoTask

    class Between(celery.app.task.Task):
        abstract = True

        def apply_async(self, *args: Any, **options: Any) -> Any:
            result = super().apply_async(*args, **options)
            celery.app.task.Task.apply_async(task)
            return result

    class Ours(DjangoTask, Between):
        abstract = True

    def other() -> None:
        pass

    assert ends(declare(other, base=Ours).delay)


def ends(call: Callable[[], Any]) -> bool:
    """Tell whether a call comes to an end."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_result_backend_that_publishes_is_asked(
    wire: Wire, live_app: Live, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_task_call(producer: Any, task_id: str) -> None:
        producer.publish({"audit": task_id}, routing_key="audit", serializer="json")

    on_task_call.__module__ = "project.backends"
    monkeypatch.setattr(type(live_app.app.backend), "on_task_call", staticmethod(on_task_call))
    sent = wire.since(lambda: [task.delay() for _ in range(3)])
    assert {queue: len(raw) for queue, raw in sent.items()} == {"celery": 3, "audit": 3}


@pytest.mark.parametrize("when", ["before", "after"])
def test_producer_of_a_project_sends(
    wire: Wire, live_app: Live, task: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Counting(kombu.Producer):
        count = 0

        def publish(self, *args: Any, **options: Any) -> Any:
            Counting.count += 1
            return super().publish(*args, **options)

    if when == "after":
        learned(task)
    monkeypatch.setattr(kombu.pools.ProducerPool, "Producer", Counting)
    kombu.pools.reset()
    live_app.app._pool = None
    vars(live_app.app).pop("amqp", None)
    for _ in range(3):
        task.delay()
    assert Counting.count == 3


def test_what_the_task_says_later_is_seen(wire: Wire, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learned(task)
    learned(task)
    monkeypatch.setattr(type(task), "shadow_name", lambda *_: "later", raising=False)
    (raw,) = wire.since(task.delay)["celery"]
    assert json.loads(raw)["headers"]["shadow"] == "later"


def test_queue_that_was_defined_anew_is_used(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task, queue="renamed")
    learned(task, queue="renamed")
    live_app.app.amqp.queues.add(
        kombu.Queue("renamed", kombu.Exchange("other", delivery_mode=1), routing_key="x")
    )
    try:
        theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID, queue="renamed"))
        assert wire.since(lambda: task.send((), {}, task_id=ID, queue="renamed")) == theirs
        assert json.loads(theirs["renamed"][0])["properties"]["delivery_mode"] == 1
    finally:
        del live_app.app.amqp.queues["renamed"]


def test_router_that_is_a_function_is_asked(wire: Wire, live_app: Live, task: Any) -> None:
    def route(name: str, args: Any, *_: Any, **__: Any) -> dict[str, str]:
        return {"queue": f"queue-{args[0]}"}

    live_app.settings.CELERY_TASK_ROUTES = [route]
    vars(live_app.app).pop("amqp", None)
    messages = wire.since(lambda: [task.delay(number) for number in range(3)])
    assert sorted(messages) == ["queue-0", "queue-1", "queue-2"]
    assert wire.short == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("task_send_sent_event", True), ("task_default_queue", "other"), ("task_always_eager", True)],
)
@pytest.mark.parametrize("place", ["the app", "Django"])
def test_setting_that_changes_is_seen_by_the_next_message(
    wire: Wire, live_app: Live, task: Any, name: str, value: Any, place: str
) -> None:
    learned(task)
    if place == "the app":
        live_app.app.conf[name] = value
    else:
        setattr(live_app.settings, f"CELERY_{name.upper()}", value)
    theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID))
    before = wire.short
    assert wire.since(lambda: task.send((), {}, task_id=ID)) == theirs
    if live_app.app.conf[name] == value:  # Django's settings come first in Celery 5.5 and 5.6
        assert wire.short == before


def test_inherited_priority_is_for_celery(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task)
    live_app.settings.CELERY_TASK_INHERIT_PARENT_PRIORITY = True
    with running(task, delivery_info={"priority": 9}):
        assert list(wire.since(lambda: task.send((), {}, task_id=ID))) == ["celery\x06\x169"]


def test_task_whose_results_are_wanted_after_all(wire: Wire, task: Any) -> None:
    task.ignore_result = True
    learned(task)
    task.ignore_result = False
    theirs = wire.since(lambda: by_celery(task, (), {}, task_id=ID))
    assert wire.since(lambda: task.send((), {}, task_id=ID)) == theirs


def test_first_protocol_is_for_celery(wire: Wire, live_app: Live, task: Any) -> None:
    live_app.settings.CELERY_TASK_PROTOCOL = 1
    vars(live_app.app).pop("amqp", None)
    learned(task)
    learned(task)
    assert wire.short == 0


def test_other_transport_is_for_celery(live_app: Live, task: Any) -> None:
    live_app.settings.CELERY_BROKER_URL = "memory://"
    from tests.live import forget_connections

    forget_connections(live_app.app)
    with mock.patch.object(publishing, "_publish") as publish:
        for _ in range(3):
            task.delay()
    publish.assert_not_called()


def test_number_of_forms_is_bounded(wire: Wire, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MOST", 3)
    for limit in range(1, 10):
        learned(task, time_limit=limit)
    assert len(vars(task.app.amqp)[publishing.FORMS]) <= 3


# --- connections ------------------------------------------------------------------------------------------------


def test_queue_is_declared_through_each_connection(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task)
    learned(task)
    assert wire.short == 1
    with live_app.app.pool.acquire():  # the next one is a new connection
        learned(task)
        assert wire.short == 1
        learned(task)
    assert wire.short == 2


def test_limit_of_the_pool_is_kept(wire: Wire, live_app: Live, task: Any) -> None:
    live_app.settings.CELERY_BROKER_POOL_LIMIT = 1
    kombu.pools.reset()
    live_app.app._pool = None
    vars(live_app.app).pop("amqp", None)
    learned(task)
    learned(task)
    assert wire.short == 1
    held = live_app.app.pool.acquire(block=True)
    caller = threading.Thread(target=task.delay, daemon=True)
    caller.start()
    caller.join(0.3)
    assert caller.is_alive(), "it waits for the only connection"
    held.release()
    caller.join(5)
    assert not caller.is_alive()
    kombu.pools.set_limit(10, force=True, reset_after=True)


def test_threads_send_each_message_once(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task)

    def send() -> None:
        for _ in range(50):
            task.delay()

    def all_send() -> None:
        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    messages = wire.since(all_send)["celery"]
    ids = [json.loads(raw)["headers"]["id"] for raw in messages]
    assert len(set(ids)) == len(ids) == 300
    assert wire.short > 250


def test_forked_child_sends_on_its_own_connection(wire: Wire, live_app: Live, task: Any) -> None:
    learned(task)

    def both() -> None:
        child = os.fork()
        if not child:
            try:
                task.delay()
                task.delay()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        task.delay()

    origins = [json.loads(raw)["headers"]["origin"] for raw in wire.since(both)["celery"]]
    assert origins[0].startswith(f"gen{os.getpid()}@")
    assert len(set(origins[1:])) == 1
    assert origins[0] != origins[1]


@pytest.fixture
def own_broker(live_app: Live, make_server: Any) -> RedisServer:
    from tests.live import forget_connections

    server: RedisServer = make_server(RedisServer)
    live_app.settings.CELERY_BROKER_URL = server.url
    forget_connections(live_app.app)
    return server


@pytest.mark.parametrize("retry", [True, False])
def test_broker_that_was_restarted_gets_the_next_message(
    wire: Wire, own_broker: RedisServer, task: Any, retry: bool
) -> None:
    learned(task, retry=retry)
    learned(task, retry=retry)
    assert wire.short == 1
    own_broker.restart()
    learned(task, retry=retry)
    with own_broker.client() as client:
        assert client.llen("celery") == 1


@pytest.mark.parametrize("retry", [True, False])
def test_broker_that_is_gone_fails_as_with_celery(
    wire: Wire, own_broker: RedisServer, task: Any, retry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    options = {"retry": retry}
    learned(task, **options)
    learned(task, **options)
    own_broker.kill()
    tries = []
    connect = redis.Connection._connect
    monkeypatch.setattr(redis.Connection, "_connect", lambda self: (tries.append(1), connect(self))[1])

    def tried(way: Callable[..., Any]) -> int:
        before = len(tries)
        with pytest.raises(OperationalError):
            way((), {}, task_id=ID, **options)
        return len(tries) - before

    short = tried(task.send)
    own_broker.restart()
    learned(task, **options)
    own_broker.kill()
    assert short == tried(lambda *args, **options: by_celery(task, *args, **options))


def test_broken_connection_gives_the_message_once(wire: Wire, own_broker: RedisServer, task: Any) -> None:
    learned(task)
    learned(task)
    with own_broker.client() as client:
        client.delete("celery")
        client.client_kill_filter(_type="normal", skipme=True)
        learned(task)
        assert wait_until(lambda: client.llen("celery"), what="sent") == 1


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.text(), max_size=2),
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    arguments=st.one_of(
        st.lists(VALUES, max_size=4),
        st.lists(VALUES, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    ),
    maxlen=st.integers(1, 60),
    levels=st.sampled_from(({}, {"maxlevels": 1}, {"maxlevels": 0})),
)
def test_arguments_are_shown_as_celery_shows_them(
    arguments: Any, maxlen: int, levels: dict[str, int]
) -> None:
    """Naive: their repr(), which quotes and escapes texts in a way of its own."""
    assert shown(arguments, maxlen, levels) == saferepr(arguments, maxlen, **levels)
