"""The task that a worker runs in this thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery._state import _task_stack
from celery.app.base import Celery

from django_celery_extensions import running
from django_celery_extensions.running import running_task
from tests.project.celery import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def running_here(*, called_directly: bool = False) -> Iterator[Any]:
    task = SimpleNamespace(request=SimpleNamespace(called_directly=called_directly))
    _task_stack.push(task)
    try:
        yield task
    finally:
        _task_stack.pop()


def seen_in_another_thread() -> Any:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(running_task(app)))
    thread.start()
    thread.join()
    return seen[0]


def test_it_is_what_celery_says() -> None:
    assert running_task(app) is app.current_worker_task is None
    with running_here() as outer:
        assert running_task(app) is app.current_worker_task is outer
        with running_here(called_directly=True):
            assert running_task(app) is app.current_worker_task is outer
        assert running_task(app) is outer
    assert running_task(app) is None


def test_each_thread_has_its_own() -> None:
    """Naive: Celery is asked as soon as anybody runs a task in this process."""
    with (
        running_here(),
        mock.patch.object(Celery, "current_worker_task", new_callable=mock.PropertyMock) as asked,
    ):
        assert seen_in_another_thread() is None
        asked.assert_not_called()


def test_celery_is_not_asked_where_there_is_none() -> None:
    with mock.patch.object(Celery, "current_worker_task", new_callable=mock.PropertyMock) as asked:
        assert running_task(app) is None
        asked.assert_not_called()


def test_celery_is_asked_where_it_keeps_them_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_known", False)
    with mock.patch.object(Celery, "current_worker_task", new_callable=mock.PropertyMock) as asked:
        assert running_task(app) is asked.return_value
