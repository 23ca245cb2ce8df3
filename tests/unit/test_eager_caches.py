"""Which caches, settings and brokers eager tasks need."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.exceptions import StaleLimitMissing, TaskConfigurationError
from tests.live import forget_connections
from tests.project.celery import app

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare, Heard, Queue

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def body(x: Any = None) -> Any:
    if x == "broken":
        raise ValueError(x)
    return x


def use(settings: SettingsWrapper, configuration: dict[str, Any]) -> None:
    settings.CACHES = {**settings.CACHES, "default": configuration}


GUARDED = ({"unique": True}, {"ignore_task_timedelta": 60})


@pytest.mark.django_db
@pytest.mark.parametrize("options", GUARDED)
def test_cache_of_this_process_will_do_for_eager_tasks_only(
    queue: Queue, declare: Declare, settings: SettingsWrapper, options: dict[str, Any]
) -> None:
    use(settings, {"BACKEND": LOCMEM})
    task = declare(body, **options)
    for call in (task.delay, task.delay_on_commit):
        with pytest.raises(TaskConfigurationError, match="'default' is a LocMemCache"):
            call(1)
    assert queue.ids() == []
    assert task.apply((1,)).get() == 1
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert task.delay(1).get() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("options", GUARDED)
def test_cache_that_keeps_nothing_will_never_do(
    declare: Declare, settings: SettingsWrapper, options: dict[str, Any]
) -> None:
    use(settings, {"BACKEND": "django.core.cache.backends.dummy.DummyCache"})
    task = declare(body, **options)
    for call in (task.delay, task.delay_on_commit, lambda x: task.apply((x,))):
        with pytest.raises(TaskConfigurationError, match="DummyCache"):
            call(1)


def test_unknown_cache_is_named_with_the_known_ones(declare: Declare, settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "clams"
    with pytest.raises(TaskConfigurationError, match=r"CACHE_NAME is 'clams', but CACHES has 'default'"):
        declare(body, unique=True).delay(1)


def test_plain_tasks_need_no_cache(declare: Declare, settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "clams"
    assert declare(body).delay(1).get() == 1


def test_project_without_a_default_limit_is_told_at_the_call(
    declare: Declare, settings: SettingsWrapper, heard: Heard
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT = None
    task = declare(body, unique=True)
    with pytest.raises(StaleLimitMissing):
        task.delay(1)
    assert heard.names == []
    assert task.apply_async((1,), stale_time_limit=5).get() == 1
    assert task.apply_async((1,), time_limit=5, max_queue_waiting_time=5).get() == 1


def test_lock_timeout_may_be_a_timedelta(declare: Declare, settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = timedelta(seconds=5)
    assert declare(body, unique=True).delay(1).get() == 1


def test_many_calls_need_no_broker(declare: Declare, settings: SettingsWrapper) -> None:
    forget_connections(app)
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    try:
        assert [result.get() for result in declare(body, unique=True).delay_many([(1,), (2,)])] == [1, 2]
    finally:
        forget_connections(app)
