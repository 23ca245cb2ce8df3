"""What is wrong with a call that waits for a commit is told at the call, if it can be known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from kombu.exceptions import EncodeError

from django_celery_extensions.exceptions import (
    CeleryError,
    InvalidOption,
    StoreUnavailable,
    TaskConfigurationError,
    UniqueTaskConflict,
)
from tests.project import tasks
from tests.project.celery import app
from tests.servers import RedisServer
from tests.settings import redis_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeServer
    from tests.unit.conftest import Declare, Heard, Queue

pytestmark = pytest.mark.django_db(transaction=True)

WAYS: dict[str, Callable[..., Any]] = {
    "delay_on_commit": lambda task, *args: task.delay_on_commit(*args),
    "apply_async_on_commit": lambda task, *args: task.apply_async_on_commit(args=args),
    "positional": lambda task, *args: task.apply_async_on_commit(args, {}, None),
    "delay_many_on_commit": lambda task, *args: task.delay_many_on_commit([args])[0],
    "apply_async_many_on_commit": lambda task, *args: task.apply_async_many_on_commit([(args, None)])[0],
}
each_way = pytest.mark.parametrize("call", WAYS.values(), ids=WAYS.keys())


def body(x: Any = None, y: Any = None) -> Any:
    return x


class Unserialisable:
    """Has no JSON form."""


@each_way
@pytest.mark.parametrize("options", [{"unique": True}, {"unique": True, "unique_keys": ("y",)}])
def test_unserialisable_argument_of_a_unique_task_is_refused_at_the_call(
    queue: Queue, declare: Declare, heard: Heard, call: Callable[..., Any], options: dict[str, Any]
) -> None:
    task = declare(body, **options)
    with transaction.atomic(), pytest.raises((InvalidOption, EncodeError)):
        call(task, Unserialisable())
    assert heard.names == []
    assert queue.ids() == []


@each_way
def test_unserialisable_argument_of_a_plain_task_is_refused_at_the_call(
    queue: Queue, declare: Declare, call: Callable[..., Any]
) -> None:
    task = declare(body)
    with transaction.atomic():
        with pytest.raises(EncodeError):
            call(task, Unserialisable())
        transaction.set_rollback(True)


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("stale_time_limit", -1, CeleryError),
    ("stale_timelimit", 1, InvalidOption),
    ("unique", True, InvalidOption),
    ("unique_on_conflict", "jion", InvalidOption),
]


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        *BAD,
        ("countdown", "soon", Exception),
        ("eta", "tomorrow", Exception),
        ("connect_timeout", "soon", InvalidOption),
        ("serializer", "nope", Exception),
        ("compression", "nope", Exception),
    ],
)
def test_bad_option_is_refused_at_the_call(
    queue: Queue, option: str, value: Any, error: type[Exception]
) -> None:
    with transaction.atomic():
        with pytest.raises(error):
            tasks.silent.apply_async_on_commit(("a",), **{option: value})
        transaction.set_rollback(True)
    assert queue.ids() == []


def test_unusable_cache_is_told_at_the_call(queue: Queue, settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "clams"
    with transaction.atomic(), pytest.raises(TaskConfigurationError):
        tasks.silent.delay_on_commit("a")


# errors of the commit


@pytest.mark.usefixtures("database")
def test_conflict_is_found_at_the_commit(queue: Queue) -> None:
    first = tasks.silent.delay("a")
    with pytest.raises(UniqueTaskConflict, match=first.id), transaction.atomic():  # noqa: PT012 - the commit raises
        result = tasks.silent.apply_async_on_commit(("a",), unique_on_conflict="raise")
        assert result.state == "WAITING"
    assert queue.ids() == [first.id]


@pytest.mark.usefixtures("database")
def test_store_that_is_down_at_the_commit(
    queue: Queue, make_server: MakeServer, settings: SettingsWrapper
) -> None:
    server = make_server(RedisServer)
    settings.CACHES = {**settings.CACHES, "default": redis_cache(server.url)}
    assert not tasks.silent.is_processing(("a",))
    with pytest.raises(StoreUnavailable), transaction.atomic():  # noqa: PT012 - the commit raises
        result = tasks.silent.delay_on_commit("a")
        server.kill()
    assert (result.state, queue.ids()) == ("WAITING", [])
    with transaction.atomic():
        result = tasks.silent.apply_async_on_commit(("a",), unique_on_store_error="publish")
    assert queue.ids() == [result.id]
    (message,) = queue.messages()
    assert not message.headers["dce"].get("claimed")


def test_broker_that_is_down_at_the_commit_leaves_no_claim(queue: Queue, settings: SettingsWrapper) -> None:
    from tests.live import forget_connections

    forget_connections(app)
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(Exception, match=r"refused|Connection"), transaction.atomic():
        result = tasks.silent.apply_async_on_commit(("a",), retry=False)
    assert result.state == "WAITING"
    assert not tasks.silent.is_processing(("a",))
