"""What the unit tests share: tasks declared for one test, a clean cache, a look into the queue."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import kombu.exceptions
import pytest
from django.core.cache import cache

from django_celery_extensions import signals
from django_celery_extensions.commands import make_command_tasks
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.task import get_django_command_task
from tests.project.celery import app
from tests.project.management.commands import demand, say
from tests.unit.stores import (
    DATABASES,
    MORE,
    OTHERS,
    REDIS,
    Backend,
    database_settings,
    default_database,
    opened,
)

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.base import ClaimStore
    from tests.live import Live

Declare = Callable[..., Any]

needs_batches = pytest.mark.skipif(
    not hasattr(kombu.exceptions, "BatchPublishError"), reason="kombu has batches from 5.7 on"
)


@pytest.fixture(autouse=True)
def clean_cache() -> None:
    """Claims and windows of another test mean nothing here, nor what it still owes a store that was down."""
    heartbeat._owed.clear()
    cache.clear()


@pytest.fixture
def declare() -> Iterator[Declare]:
    """A maker of tasks on the app of `tests.project`: `declare(body, unique=True)`; they are gone with the test.

    A body's name is the last part of the task's, so that two bodies of one test need two names.
    """
    known = set(app.tasks)

    def make(body: Callable[..., Any], **options: Any) -> Any:
        options.setdefault("name", f"declared.{body.__name__}")
        return app.task(body, shared=False, lazy=False, **options)

    yield make
    for name in set(app.tasks) - known:
        del app.tasks[name]


@dataclass(kw_only=True, frozen=True)
class Message:
    """A message that no worker has taken."""

    task: str
    task_id: str
    args: list[Any]
    kwargs: dict[str, Any]
    headers: dict[str, Any]
    properties: dict[str, Any]


@dataclass(kw_only=True)
class Queue:
    """The broker of `live_app`, which has no worker."""

    live: Live

    def messages(self, queue: str = "celery") -> list[Message]:
        """Return what waits in the queue, in the order of sending."""
        with self.live.broker.client(self.live.broker_database) as client:
            raw = [json.loads(line) for line in reversed(client.lrange(queue, 0, -1))]
        found = []
        for each in raw:
            args, kwargs, _ = json.loads(base64.b64decode(each["body"]))
            headers = each["headers"]
            found.append(
                Message(
                    task=headers["task"],
                    task_id=headers["id"],
                    args=args,
                    kwargs=kwargs,
                    headers=headers,
                    properties=each["properties"],
                )
            )
        return found

    def ids(self, queue: str = "celery") -> list[str]:
        return [message.task_id for message in self.messages(queue)]


@pytest.fixture
def queue(live_app: Live) -> Queue:
    """The queue of `live_app`: the app sends to a real broker, and nobody takes the messages."""
    return Queue(live=live_app)


@dataclass(kw_only=True)
class Heard:
    """The signals of one test, in order: name and arguments of each."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (found,) = [arguments for event, arguments in self.events if event == name]
        return found


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Every signal of the package, as it is sent."""
    record = Heard()
    receivers = []
    for name, signal in vars(signals).items():
        if not name.startswith(("invocation_", "task_")):
            continue

        def receiver(name: str = name, **arguments: Any) -> None:
            arguments.pop("signal")
            record.events.append((name, arguments))

        signal.connect(receiver, weak=False)
        receivers.append((signal, receiver))
    yield record
    for signal, receiver in receivers:
        signal.disconnect(receiver)


@pytest.fixture(params=[*REDIS, *OTHERS])
def backend(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    """Every store in turn, empty."""
    with opened(request.param, request, settings) as found:
        yield found


@pytest.fixture(params=[*REDIS, *OTHERS, *MORE])
def store(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[ClaimStore]:
    """The same and some more, for who needs the store only."""
    with opened(request.param, request, settings) as found:
        yield found.store


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[str]:
    """The default database: the tests' own in SQLite, and one in a real PostgreSQL, which has no tables."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    with default_database(database_settings(request.param, request)):
        yield request.param


@pytest.fixture
def postgresql(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[str]:
    """The default database in a real PostgreSQL, without tables."""
    with default_database(database_settings("postgresql", request)):
        yield "postgresql"


@pytest.fixture
def make(settings: SettingsWrapper) -> Iterator[Callable[..., Any]]:
    """Make the tasks of commands, as Django's start does: `make(say={"unique": True})`."""
    from celery import _state

    known, finalizers = dict(app.tasks), set(_state._on_app_finalizers)

    def make_tasks(default: Any = None, **commands: Any) -> Any:
        for name in [name for name in app.tasks if name.startswith("command.")]:
            del app.tasks[name]
        settings.DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS = commands
        settings.DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DEFAULT_CELERY_KWARGS = default
        make_command_tasks()
        return get_django_command_task(next(iter(commands)))

    yield make_tasks
    app.tasks.clear()
    app.tasks.update(known)
    _state._on_app_finalizers &= finalizers
    say.runs.clear()
    demand.runs.clear()


@pytest.fixture
def ignored(queue: Queue, declare: Declare) -> Any:
    """A task within whose ignore window we are, called with nothing."""

    def body(x: Any = None) -> Any:
        return x

    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
    task.apply(()).get()
    return task


def end(result: AsyncResult[Any], value: Any, state: str = "SUCCESS") -> None:
    """What a worker does to the result of a task."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Celery's SETEX
        app.backend.store_result(result.id, value, state)
