"""A process that sends to a RabbitMQ whose queues nobody consumes, and plays the worker itself where one is needed."""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celery import _state
from celery.utils.imports import symbol_by_name
from celery.worker.strategy import hybrid_to_proto2
from django.conf import settings
from django.test import override_settings
from kombu import Connection, Exchange, Queue, serialization

from django_celery_extensions.commands import make_command_tasks
from django_celery_extensions.config import settings as extensions
from django_celery_extensions.keys import unique_name
from django_celery_extensions.task import DjangoTask, get_django_command_task
from django_celery_extensions.testing import forget_claim
from tests.live import CELERY_VARIABLES, forget_connections
from tests.options.proxy import Proxy
from tests.servers import HOST
from tests.settings import redis_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery
    from kombu import Message
    from typing_extensions import Self

    from tests.servers import RedisServer
    from tests.servers_rabbitmq import RabbitMQServer

DEFAULT = "celery"
ACCEPT = ["json", "pickle", "yaml", "msgpack", "shout"]
#: The exchange of the routing guide, and what each queue is bound by.
TASKS = Exchange("tasks", "topic")
BINDINGS = {"video": "video.#", "image": "image.#", "lowpri": "misc.#", "image.crop": "image.crop"}


@dataclass(kw_only=True)
class Arrival:
    """One message as it lay in its queue, and when the call was made that it came from."""

    message: Message
    queue: str
    since: datetime
    until: datetime
    args: list[Any] = field(init=False)
    headers: dict[str, Any] = field(init=False)
    embed: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        body, self.headers, *_ = of_message(self.message)
        self.args, _, self.embed = self.message.decode() if body is None else body

    def look(self, place: str) -> Any:
        """Return what is found at a place: "header shadow", "property priority", "embed callbacks", "queue" …"""
        kind, _, name = place.partition(" ")
        if kind == "header":
            return self.headers.get(name)
        if kind == "property":
            return self.message.properties.get(name)
        if kind == "embed":
            return self.embed.get(name)
        if kind == "protocol":
            return 2 if "task" in self.message.headers else 1
        return {
            "queue": self.queue,
            "exchange": self.message.delivery_info["exchange"],
            "routing_key": self.message.delivery_info["routing_key"],
            "content_type": self.message.content_type,
        }[place]


def of_message(message: Message) -> tuple[Any, dict[str, Any], bool, bool]:
    """Return body, headers, whether the body is decoded, and utc: what a worker makes of a message of either protocol."""
    if "task" in message.headers:
        return None, message.headers, False, True
    return hybrid_to_proto2(message, message.decode())  # type: ignore[no-any-return]


class Stage:
    """The app, its broker (behind a proxy, if need be), tasks of both kinds, and a worker's half of the work."""

    def __init__(
        self, app: Celery, rabbit: RabbitMQServer, *, results: RedisServer, store: RedisServer
    ) -> None:
        self.app, self.rabbit, self.results, self.store = app, rabbit, results, store
        self.proxy = Proxy(rabbit.port)
        #: What the body of a task does that is called with this key, the first time, the second …
        self.acts: defaultdict[str, list[Callable[[Any], Any]]] = defaultdict(list)
        self._stack = contextlib.ExitStack()
        self._reader = Connection(rabbit.url)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.proxy)
        self._stack.callback(self._reader.release)
        self._stack.enter_context(tasks_of_its_own(self.app))
        self._stack.enter_context(shouting())
        self._stack.enter_context(without_variables())
        self._stack.enter_context(self.configured())
        self.plain, self.unique = self.declare("plain"), self.declare("unique", unique=True)
        self.first, self.last = self.declare("first"), self.declare("last")
        self.commands = {False: get_django_command_task("inspectdb"), True: get_django_command_task("say")}
        channel = self._reader.default_channel
        for name, key in BINDINGS.items():
            Queue(name, TASKS, key)(channel).declare()
        for name in (DEFAULT, "other"):
            Queue(name, Exchange(name, "direct"), name)(channel).declare()
        self._sweep()  # other tests use this broker, and its default queue, as well
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    # What is sent.

    def declare(self, name: str, **options: Any) -> Any:
        def body(task: Any, key: str) -> Any:
            return self.acts[key].pop(0)(task) if self.acts[key] else key

        return self.app.task(
            body, name=f"options.{name}", bind=True, shared=False, lazy=False, base=DjangoTask, **options
        )

    @contextlib.contextmanager
    def configured(self, *, proxied: bool = False, **conf: Any) -> Iterator[None]:
        """Celery's configuration with these settings (upper case), read anew; no connection is open."""
        celery = {
            "BROKER_URL": self.proxied_url if proxied else self.rabbit.url,
            "RESULT_BACKEND": self.results.database(1),
            "TASK_ALWAYS_EAGER": False,
            **conf,
        }
        caches = {**settings.CACHES, "default": redis_cache(self.store.url)}
        with override_settings(**{f"CELERY_{name}": value for name, value in celery.items()}, CACHES=caches):
            forget_connections(self.app)
            try:
                yield
            finally:
                forget_connections(self.app)

    def connect(self) -> None:
        """Have the app open its connection."""
        with self.app.producer_or_acquire() as producer:
            _ = producer.connection.default_channel

    def forget(self) -> None:
        """Close what the app has opened: its next call has to connect."""
        forget_connections(self.app)

    def connection(self) -> Connection:
        """Return a connection of the caller's own through the proxy, which it closes."""
        return Connection(self.proxied_url)

    @property
    def proxied_url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.proxy.port}//"

    # What arrives.

    def take(self, queue: str = DEFAULT) -> Message:
        """Take the message that is there, or is about to be."""
        bound = Queue(queue, channel=self._reader.default_channel)
        message: Message = wait_until(
            lambda: bound.get(no_ack=True, accept=ACCEPT), 5, f"a message in {queue}", interval=0.002
        )
        return message

    @contextlib.contextmanager
    def swept_after_failure(self) -> Iterator[None]:
        """What a test has left that failed is gone."""
        try:
            yield
        except BaseException:
            self.acts.clear()
            self._sweep()
            raise

    def _sweep(self) -> None:
        for name in (DEFAULT, "other", *BINDINGS):
            self._reader.default_channel.queue_purge(name)

    def waiting(self) -> int:
        """Return how many messages are in the default queue."""
        return int(self._reader.default_channel.queue_declare(DEFAULT, passive=True).message_count)

    def claimed_for(self, task: Any, args: Any) -> float:
        """Return the seconds that the claim of a call lasts."""
        return self.store.lasts(unique_name(task, extensions.UNIQUE_TASK_KEY_PREFIX, args, {}))

    def perform(self, message: Message) -> Any:
        """Do what a worker does with a message, in this process."""
        body, headers, decoded, utc = of_message(message)
        task = self.app.tasks[headers["task"]]
        request = symbol_by_name(task.Request)(
            message,
            app=self.app,
            task=task,
            hostname="stage@localhost",
            on_ack=lambda *_: None,
            on_reject=lambda *_: None,
            connection_errors=(),
            body=body,
            headers=headers,
            decoded=decoded,
            utc=utc,
        )
        with warnings.catch_warnings():
            # That nobody could be found for what comes next is told by such a warning.
            warnings.filterwarnings("ignore", "Exception raised outside body", RuntimeWarning)
            return request.execute()

    def key(self) -> str:
        return uuid.uuid4().hex


def now() -> datetime:
    return datetime.now(timezone.utc)


@contextlib.contextmanager
def tasks_of_its_own(app: Celery) -> Iterator[None]:
    """Tasks that are declared meanwhile are gone afterwards; with tasks of the commands `say` (unique) and `inspectdb`."""
    finalizers, before = set(_state._on_app_finalizers), dict(app.tasks)
    name = "DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS"
    try:
        with override_settings(**{name: {"say": {"unique": True}, "inspectdb": {}}}):
            make_command_tasks()
            yield
    finally:
        _state._on_app_finalizers.clear()
        _state._on_app_finalizers.update(finalizers)
        for task in set(app.tasks) - set(before):
            del app.tasks[task]


@contextlib.contextmanager
def without_variables() -> Iterator[None]:
    """The environment beats the configuration in Celery."""
    variables = {name: os.environ.pop(name) for name in CELERY_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(variables)


@contextlib.contextmanager
def shouting() -> Iterator[None]:
    """A serializer of the project's own."""

    def dumps(value: Any) -> str:
        return str(serialization.dumps(value, "json")[2].upper())

    def loads(text: str) -> Any:
        return serialization.loads(text.lower(), "application/json", "utf-8")

    serialization.register("shout", dumps, loads, "application/x-shout", "utf-8")
    try:
        yield
    finally:
        serialization.unregister("shout")


__all__ = ["Arrival", "Stage", "forget_claim", "now"]
