"""The form of a message: what Celery gives to kombu for a kind of call, with places to fill in.

A kind of call is a task and the options of the call. Celery itself makes the first message of a kind, and we look on
(:class:`Watch`). A form is made of what was seen if filling it in for that very call comes to that very message, and
if the code that makes it is what Celery and kombu wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from celery.app import amqp, base, routes, task
from celery.app.defaults import DEFAULTS
from celery.utils import nodenames, saferepr
from kombu import connection, messaging
from kombu.pools import ProducerPool

from django_celery_extensions import redis_channel
from django_celery_extensions.records import record
from django_celery_extensions.running import running_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_celery_extensions.task import DjangoTask

    Send = Callable[..., Any]

#: Options of a call that may differ between messages of one form.
_FREE = frozenset({"task_id", "headers"})
#: Options whose values belong to the kind of a call, and the types of such values.
_FIXED = frozenset(
    "queue exchange routing_key priority serializer delivery_mode ignore_result time_limit soft_time_limit retry".split()
)
_SIMPLE = frozenset({str, int, float, bool, type(None)})
#: What kombu may be given along with a message; anything else is more than we know.
_GIVEN = frozenset(
    "exchange routing_key serializer compression retry retry_policy delivery_mode declare timeout confirm_timeout "
    "priority mandatory immediate".split()
)
#: What is not called for a message that a form is filled in for, beside the channel's.
_CODE: tuple[tuple[Any, str], ...] = (
    (task.Task, "apply_async"),
    (task.Task, "_get_exec_options"),
    (task.Task, "shadow_name"),
    (base.Celery, "send_task"),
    (base.Celery, "producer_or_acquire"),
    (amqp.AMQP, "as_task_v2"),
    (amqp, "saferepr"),
    (amqp, "anon_nodename"),
    (amqp.AMQP, "_create_task_sender"),
    (routes.Router, "route"),
    (routes.Router, "expand_destination"),
    (messaging.Producer, "publish"),
    (messaging.Producer, "_publish"),
    (messaging.Producer, "_prepare"),
    (messaging.Producer, "maybe_declare"),
    (connection.Connection, "ensure"),
)
_MODULES = (task, base, amqp, routes, messaging, connection, nodenames, saferepr)
#: Modules of the result backends that need no producer to be told of a call.
_BACKENDS = ("celery.backends.base", "celery.backends.redis")
#: How deep the arguments are shown: for Celery 5.7 a setting.
_LEVELS = "task_repr_maxlevels"
#: What Celery reads anew for each message.
SETTINGS = ["task_send_sent_event", "task_default_queue"]
if _LEVELS in DEFAULTS:
    SETTINGS.append(_LEVELS)
#: What Celery makes of the configuration once.
_KEPT = ("router", "create_task_message", "send_task_message")
_saferepr: Any = vars(amqp)["saferepr"]


def route_headers(task: DjangoTask) -> Mapping[str, Any]:
    """Return the headers that the static route of a task has for its messages; Celery lets those of a call replace them.

    What a router would say that is a function is not asked for: it may say something else each time.
    """
    for route in _kept(task.app.amqp, "router").routes:
        if type(route) is not routes.MapRoute:
            break
        found = route(task.name)
        if found is not None:
            headers: Mapping[str, Any] = found.get("headers") or {}
            return headers
    return {}


def kind_of(task: DjangoTask, args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what the form of a message depends on; None for a call whose message has none."""
    if options.get("task_id") is None or not isinstance(options.get("headers") or {}, dict):
        return None
    if not isinstance(args or (), (list, tuple)) or not isinstance(kwargs or {}, (dict, Mapping)):
        return None  # Celery refuses it
    kind: list[Any] = [task.name]
    for name, value in options.items():
        if name not in _FREE:
            if name not in _FIXED or type(value) not in _SIMPLE:
                return None
            kind.append((name, type(value), value))  # 1, 1.0 and True are equal
    return tuple(kind)


def state_of(
    task: DjangoTask, options: Mapping[str, Any], by_celery: Send, settings: list[Any]
) -> tuple[Any, ...]:
    """Return all that Celery's way depends on beyond the call itself: a form holds while it is the same.

    ``settings`` are the values of :data:`SETTINGS`.
    """
    celerys: Any = task
    app: Any = task.app
    amqp_, ignored = app.amqp, options.get("ignore_result", task.ignore_result)
    router = _kept(amqp_, "router")
    return (
        by_celery,
        task.shadow_name,
        celerys._get_exec_options(),  # noqa: SLF001 - what Celery keeps of the attributes of the task
        app.send_task,
        app.producer_or_acquire,
        ProducerPool.Producer,
        router.route,
        *router.routes,
        *[_kept(amqp_, name) for name in _KEPT],
        os.getpid(),  # a part of the header "origin"
        task.priority,
        task.time_limit,
        task.soft_time_limit,
        ignored,
        ignored or type(app.backend),
        settings,
        _code(),
    )


def _code() -> list[Any]:
    return [getattr(owner, name) for owner, name in _CODE] + redis_channel.code()


def _kept(owner: Any, name: str) -> Any:
    # Celery's cached properties are slow to say what they keep.
    found = vars(owner).get(name)
    return getattr(owner, name) if found is None else found


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as Celery gives it to kombu."""

    body: tuple[Any, ...]
    headers: dict[str, Any]
    properties: dict[str, Any]


@record
class Filling:
    """What differs between the messages of a form."""

    args: Any
    kwargs: Any
    task_id: str
    root_id: str
    parent_id: str | None
    argsrepr: str
    kwargsrepr: str
    #: Headers that the call gives.
    own: Mapping[str, Any]
    reply_to: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """A message of one kind, to be filled in."""

    state: tuple[Any, ...]
    #: The queue as the app knew it.
    declared: Any
    #: The last part of the body: callbacks, of which there are none.
    embed: Any
    headers: dict[str, Any]
    properties: dict[str, Any]
    #: What else kombu was given.
    given: dict[str, Any]
    levels: dict[str, Any]

    @property
    def queue(self) -> str:
        """Name of the queue."""
        queue: str = self.given["routing_key"]
        return queue

    @property
    def ignored(self) -> Any:
        """What became of the option ``ignore_result``."""
        return self.headers["ignore_result"]

    def filling(
        self, task: DjangoTask, args: Any, kwargs: Any, options: Mapping[str, Any], running: Any
    ) -> Filling | None:
        """Return what a call puts into the form, as ``Celery.send_task`` and ``AMQP.as_task_v2`` make it.

        ``running`` is the task that a worker runs here. None for a call with a header that Celery makes itself.
        """
        own = options.get("headers") or {}
        if not own.keys().isdisjoint(self.headers):
            return None
        app: Any = task.app
        task_id, amqp_ = options["task_id"], app.amqp
        return Filling(
            args=args,
            kwargs=kwargs,
            task_id=task_id,
            root_id=(running and (running.request.root_id or running.request.id)) or task_id,
            parent_id=running and running.request.id,
            argsrepr=shown(args, amqp_.argsrepr_maxsize, self.levels),
            kwargsrepr=shown(kwargs, amqp_.kwargsrepr_maxsize, self.levels),
            own=own,
            reply_to=app.thread_oid,
        )

    def body(self, filling: Filling) -> tuple[Any, ...]:
        """Return the body of a message."""
        return filling.args, filling.kwargs, self.embed

    def message(self, filling: Filling) -> Message:
        """Return the message, filled in."""
        headers = {
            **self.headers,
            "id": filling.task_id,
            "root_id": filling.root_id,
            "parent_id": filling.parent_id,
            "argsrepr": filling.argsrepr,
            "kwargsrepr": filling.kwargsrepr,
            **filling.own,
        }
        properties = {**self.properties, "correlation_id": filling.task_id, "reply_to": filling.reply_to}
        return Message(body=self.body(filling), headers=headers, properties=properties)


def shown(arguments: Any, maxlen: int, levels: Mapping[str, Any]) -> str:
    """Return what Celery's ``saferepr`` shows of arguments; a short ``repr`` of what is plain is the same."""
    if type(arguments) in (tuple, list):
        plain = all(map(_is_plain, arguments))
    else:
        plain = type(arguments) is dict and all(map(_is_plain, (*arguments, *arguments.values())))
    if plain:
        text = repr(arguments)
        if len(text) < maxlen:
            return text
    as_celery: str = _saferepr(arguments, maxlen, **levels)
    return as_celery


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _SIMPLE and (
        kind is not str or (value.isprintable() and "'" not in value and "\\" not in value)
    )


class Watch:
    """A producer that Celery sends one message through, and that remembers what it was given.

    ``take`` gives the producer, when Celery wants one.
    """

    def __init__(self, take: Callable[[], Any]) -> None:
        self._take = take
        self._seen: Message | None = None
        self._given: dict[str, Any] = {}

    @cached_property
    def _producer(self) -> Any:
        return self._take()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *, headers: Any, **given: Any) -> Any:
        """Send the message, and remember it."""
        properties = {str(name): given.pop(name) for name in ("correlation_id", "reply_to") if name in given}
        self._seen = Message(body=body, headers=dict(headers), properties=properties)
        self._given = dict(given)
        return self._producer.publish(body, headers=headers, **given, **properties)

    def form(
        self, task: DjangoTask, args: Any, kwargs: Any, options: Mapping[str, Any], state: tuple[Any, ...]
    ) -> Form | None:
        """Return the form of the message that was sent; None where there may be more to such messages."""
        app: Any = task.app
        seen, given, own = self._seen, self._given, options.get("headers") or {}
        if (
            seen is None
            or not _is_simple(seen, given)
            or not own.keys().isdisjoint(app.amqp.as_task_v2("", task.name).headers)
            or not redis_channel.declared(self._producer.channel, given["routing_key"])
        ):
            return None
        _, mode = self._producer._delivery_details("", given["delivery_mode"])  # noqa: SLF001 - as kombu does
        form = Form(
            state=state,
            declared=given["declare"][0],
            embed=seen.body[2],
            headers={name: value for name, value in seen.headers.items() if name not in own},
            properties=seen.properties,
            given={**given, "delivery_mode": mode},
            levels={"maxlevels": app.conf[_LEVELS]} if _LEVELS in DEFAULTS else {},
        )
        filling = form.filling(task, args, kwargs, options, running_task(app))
        if filling is None:
            return None
        again = form.message(filling)
        # In the same order as well: it is the order on the wire.
        same = again == seen and list(again.headers) == list(seen.headers)
        return form if same else None


def is_celerys(task: Any, options: Mapping[str, Any], by_celery: Any) -> bool:
    """Tell whether all that is not called is what Celery and kombu wrote, and makes the same of the same call.

    Nothing else is called either while Celery sends the first message with a producer that we hold.
    """
    app = task.app
    router = app.amqp.router
    used = [by_celery, task._get_exec_options, task.shadow_name]  # noqa: SLF001 - Celery has no public way
    used += [app.send_task, app.producer_or_acquire, router.route, app.amqp.as_task_v2]
    code = [app.amqp.send_task_message, *_code()]
    written_in = [vars(module) for module in (*_MODULES, *redis_channel.modules())]
    return (
        type(app.amqp) is amqp.AMQP
        and app.amqp.create_task_message == app.amqp.as_task_v2
        and (type(router), type(app.amqp.queues)) == (routes.Router, amqp.Queues)
        and all(type(route) is routes.MapRoute for route in router.routes)
        and not route_headers(task)  # which those of a call replace
        and ProducerPool.Producer is messaging.Producer
        and type(app).producer_pool is base.Celery.producer_pool
        and (
            bool(options.get("ignore_result", task.ignore_result))
            or type(app.backend).on_task_call.__module__ in _BACKENDS
        )
        and not app.conf.task_send_sent_event
        and getattr(task, "_dump_pydantic_arguments", None) is None
        and all(type(one) is MethodType and one.__func__ in code for one in used)
        # By their types: the wrappers of tracing libraries say that they are the functions they wrap.
        and all(type(one) is FunctionType and one.__globals__ in written_in for one in code)
        and bool(app.pool.limit)
    )


def _is_simple(seen: Message, given: Mapping[str, Any]) -> bool:
    """Tell whether a message goes to one queue by its name, may run at once, and never gets too old."""
    queues = given.get("declare") or ()
    return (
        given.keys() <= _GIVEN
        and given["exchange"] == ""
        and not given["compression"]
        and seen.headers.get("eta", "")
        is seen.headers.get("expires", "")
        is None  # the first protocol has no headers
        and [queue.name for queue in queues] == [given["routing_key"]]
        and all(queue.can_cache_declaration for queue in queues)
    )
