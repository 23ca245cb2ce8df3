"""What stands in the way of a delivery: nothing of ours for a plain task, no more than it needs for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import signals
from celery.app.trace import build_tracer, task_has_custom
from celery.utils.imports import symbol_by_name
from celery.worker.request import Request as CeleryRequest

from django_celery_extensions import execution, guard
from django_celery_extensions.heartbeat import Heartbeat
from django_celery_extensions.locks import LockTask, MutexTask
from django_celery_extensions.task import DjangoTask
from django_celery_extensions.worker import Request
from tests.project.celery import app

if TYPE_CHECKING:
    from tests.unit.conftest import Declare, Queue


def body(x: Any = None) -> Any:
    return x


WINDOW = {"ignore_task_timedelta": 60}
#: Options of a task, and what it needs: a guard, and somebody who sees the endings that no body sees.
NEEDS = {
    "plain": ({}, False, False),
    "retried": ({"default_retry_delays": (1,), "autoretry_for": (ValueError,)}, False, False),
    "locks": ({"base": LockTask}, False, False),
    "mutex": ({"base": MutexTask}, False, False),
    "window by hand": (WINDOW, True, False),
    "window": ({**WINDOW, "ignore_task_after_success": True}, True, True),
    "unique": ({"unique": True}, True, True),
    "unique until it starts": ({"unique": True, "unique_until": "start"}, True, True),
    "unique with a mutex": ({"unique": True, "base": MutexTask}, True, True),
}


@pytest.mark.parametrize("kind", NEEDS)
def test_only_who_needs_it_has_something_in_the_way(declare: Declare, kind: str) -> None:
    options, guarded, claims = NEEDS[kind]
    task = declare(body, **options)
    tracer = build_tracer(task.name, task, app=app)
    task.__trace__ = tracer
    assert (task.__trace__ is tracer) is not guarded
    assert (vars(task).get("__trace__") is tracer) is not guarded, "it is found without a call"
    assert bool(task_has_custom(task, "__call__")) is (guarded or "mutex" in kind)
    assert symbol_by_name(task.Request) is (Request if claims else CeleryRequest)
    del task.__trace__
    assert task.__trace__ is None


class Theirs(CeleryRequest):
    pass


class Base(DjangoTask):
    abstract = True
    Request = Theirs


def test_request_class_of_a_project_is_kept(declare: Declare) -> None:
    assert declare(body, base=Base, unique=True).Request is Theirs


def traced(task: Any) -> Any:
    """Return what becomes of a message of a task."""
    request = {"id": "i", "delivery_info": {}, "hostname": "test", "is_eager": False, "ignore_result": True}
    return build_tracer(task.name, task, app=app)("i", (7,), {}, request)


def test_message_that_is_delivered_again_within_its_own_window_keeps_its_result(
    declare: Declare, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: it is ignored, and a backend that overwrites (django-celery-results) tells so of a task that succeeded."""
    task = declare(body, ignore_task_after_success=True, **WINDOW)
    stored: list[str] = []
    backend, store = task.backend, task.backend.store_result

    def spy(task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        stored.append(state)
        return store(task_id, result, state, *args, **kwargs)

    monkeypatch.setattr(backend, "store_result", spy)
    for _ in range(2):
        request = {"id": "i", "delivery_info": {}, "hostname": "test", "is_eager": False}
        task.__trace__ = build_tracer(task.name, task, app=app)
        task.__trace__("i", (7,), {}, request)
    assert stored == ["SUCCESS"]
    assert task.AsyncResult("i").result == 7


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that nobody may ask, and a heartbeat with nothing to keep."""

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("a plain task has no part in this")

    monkeypatch.setattr(execution, "claim_store", refuse)
    monkeypatch.setattr(guard, "Execution", refuse)
    monkeypatch.setattr(Heartbeat, "keep", refuse)


@pytest.mark.usefixtures("no_store")
def test_run_of_a_plain_task_asks_no_store_and_keeps_nothing(declare: Declare) -> None:
    outcome = traced(declare(body))
    assert (outcome.retval, outcome.info) == (7, None)


@pytest.mark.usefixtures("no_store")
def test_subclass_of_a_guarded_task_need_not_be_guarded(declare: Declare) -> None:
    task = declare(body, unique=True)

    class Free(type(task)):  # type: ignore[misc]
        name = "declared.free"
        unique = False

    free = app.register_task(Free())
    tracer = build_tracer(free.name, free, app=app)
    task.__trace__ = free.__trace__ = tracer
    assert free.__trace__ is tracer
    assert task.__trace__ is not tracer
    assert traced(free).retval == 7


def test_nothing_of_ours_listens_to_celery_at_each_task() -> None:
    for signal in (signals.task_received, signals.task_prerun, signals.task_postrun, signals.task_success):
        for _, receiver in signal.receivers or ():
            listener = receiver() if hasattr(receiver, "__callback__") else receiver
            assert not str(getattr(listener, "__module__", "")).startswith("django_celery_extensions")
