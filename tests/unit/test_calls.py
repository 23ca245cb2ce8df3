"""What a call without options comes to is worked out once, for as long as it would come out the same."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import QueueNotFound

from django_celery_extensions import calls
from django_celery_extensions.exceptions import StaleLimitMissing, TaskConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare

PREFIX = "DJANGO_CELERY_EXTENSIONS_"


def body(x: Any = None) -> Any:
    return x


def planned(task: Any, *, later: bool = False) -> calls.Plan:
    return calls.plan(task, {}, send=task.send, eager=False, later=later)


def fresh(task: Any) -> calls.Plan:
    return calls._resolve(task, {}, send=task.send, eager=False, later=False)


def change_setting(name: str, value: Any) -> Callable[[Any, SettingsWrapper], None]:
    return lambda _, settings: setattr(settings, PREFIX + name, value)


def change(name: str, value: Any) -> Callable[[Any, SettingsWrapper], None]:
    return lambda task, _: setattr(task, name, value)


def change_class(name: str, value: Any) -> Callable[[Any, SettingsWrapper], None]:
    return lambda task, _: setattr(type(task), name, value)


CHANGES = {
    "prefix": change_setting("UNIQUE_TASK_KEY_PREFIX", "other"),
    "stale limit of the project": change_setting("DEFAULT_TASK_STALE_TIME_LIMIT", 77),
    "waiting time of the project": change_setting("DEFAULT_TASK_MAX_QUEUE_WAITING_TIME", 77),
    "stale limit": change("stale_time_limit", timedelta(seconds=77)),
    "stale limit of the class": change_class("stale_time_limit", 77),
    "waiting time": change("max_queue_waiting_time", 77),
    "time limit": change("time_limit", 5),  # as a worker's remote control does
    "soft time limit": change("soft_time_limit", 5),
    "expiry": change("expires", 50),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_is_seen_by_the_next_call(
    declare: Declare, settings: SettingsWrapper, name: str
) -> None:
    limited = {} if name in ("time limit", "soft time limit") else {"time_limit": 10}
    waiting = {} if name.startswith("waiting") else {"max_queue_waiting_time": 20}
    task = declare(body, unique=True, **limited, **waiting)
    before = planned(task)
    CHANGES[name](task, settings)
    assert planned(task) == fresh(task) != before


def test_it_is_worked_out_once(declare: Declare) -> None:
    task = declare(body, unique=True)
    assert planned(task) is planned(task)
    assert planned(task, later=True) is planned(task, later=True) is not planned(task)
    assert calls.plan(task, {"priority": 3}, send=task.send, eager=False, later=False) is not planned(task)


def test_tasks_do_not_share_it(declare: Declare) -> None:
    def other() -> None: ...

    assert planned(declare(body, unique=True)).limits is not None
    assert planned(declare(other)).limits is None


def test_calls_do_not_share_their_options(declare: Declare) -> None:
    """Naive: what a hook adds to the options of one call is in the next."""
    task = declare(body, unique=True)
    first = planned(task).call((), {}, task.backend)
    first.options["priority"] = first.given["priority"] = 3
    second = planned(task).call((), {}, task.backend)
    assert "priority" not in {**second.options, **second.given}
    assert first.task_id != second.task_id


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_queue_that_is_gone_is_refused(declare: Declare, settings: SettingsWrapper) -> None:
    task = declare(body, unique=True, queue="quick")
    planned(task)
    settings.CELERY_TASK_CREATE_MISSING_QUEUES = False
    with pytest.raises(QueueNotFound, match="'quick' is not in task_queues"):
        planned(task)


def test_limit_that_is_missing_is_missed_every_time(declare: Declare, settings: SettingsWrapper) -> None:
    task = declare(body, unique=True)
    planned(task)
    settings.DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT = None
    for _ in range(2):
        with pytest.raises(StaleLimitMissing):
            planned(task)


@pytest.mark.django_db
def test_cache_that_keeps_nothing_is_refused_every_time(declare: Declare, settings: SettingsWrapper) -> None:
    task = declare(body, unique=True)
    planned(task)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    many = (lambda: task.delay_many([()]), lambda: task.delay_many_on_commit([()]))
    for call in (task.delay, task.delay_on_commit, *many):
        with pytest.raises(TaskConfigurationError, match="DummyCache"):
            call()


def test_result_is_in_the_backend_of_the_thread_that_calls(declare: Declare) -> None:
    task = declare(body, unique=True, ignore_result=True)
    backends: list[Any] = []

    def call() -> None:
        result = task.delay(threading.get_ident())
        assert result.backend is task.backend
        backends.append(result.backend)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join(30)
    call()
    assert len({id(backend) for backend in backends}) == len(threads) + 1
