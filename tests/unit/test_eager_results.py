"""Results of tasks that run where they are called."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult, EagerResult
from django.db import transaction

from django_celery_extensions.exceptions import NotTriggeredCeleryError
from django_celery_extensions.invocation import Outcome
from tests.project import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Declare

WAYS: dict[str, Callable[..., Any]] = {
    "delay": lambda task, *args: task.delay(*args),
    "apply_async": lambda task, *args: task.apply_async(args),
    "apply": lambda task, *args: task.apply(args),
    "signature": lambda task, *args: task.s(*args).delay(),
    "immutable": lambda task, *args: task.si(*args).apply_async(),
    "many": lambda task, *args: task.delay_many([args])[0],
}
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
task_of_each_kind = pytest.mark.parametrize("options", [{}, {"unique": True}, {"ignore_task_timedelta": 60}])


def body(x: Any = None) -> Any:
    if x == "broken":
        raise ValueError(x)
    return x


@way
@task_of_each_kind
def test_success(declare: Declare, way: Callable[..., Any], options: dict[str, Any]) -> None:
    result = way(declare(body, **options), 5)
    assert isinstance(result, EagerResult)
    assert isinstance(result, AsyncResult)
    assert (result.get(), result.result, result.state) == (5, 5, "SUCCESS")
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert result.outcome is Outcome.TRIGGERED
    assert result.traceback is None
    assert result.as_tuple() == ((result.id, None), None)
    assert result.children in (None, [])


@way
@task_of_each_kind
def test_failure(declare: Declare, way: Callable[..., Any], options: dict[str, Any]) -> None:
    result = way(declare(body, **options), "broken")
    assert (result.state, result.failed(), result.successful()) == ("FAILURE", True, False)
    with pytest.raises(ValueError, match="broken"):
        result.get()
    assert isinstance(result.get(propagate=False), ValueError)
    assert isinstance(result.result, ValueError)
    assert "broken" in str(result.traceback)


@pytest.mark.django_db(transaction=True)
@task_of_each_kind
def test_before_and_after_the_commit(declare: Declare, options: dict[str, Any]) -> None:
    task = declare(body, **options)
    with transaction.atomic():
        result = task.delay_on_commit(5)
        assert isinstance(result, EagerResult)
        assert (result.state, result.ready(), result.successful()) == ("WAITING", False, False)
        assert result.result is None
        with pytest.raises(NotTriggeredCeleryError):
            result.get()
        id_ = result.id
    assert (result.state, result.get(), result.id) == ("SUCCESS", 5, id_)


@pytest.mark.django_db(transaction=True)
def test_rolled_back(declare: Declare) -> None:
    ran: list[int] = []

    def run() -> None:
        ran.append(1)

    task = declare(run)
    with transaction.atomic():
        result = task.delay_on_commit()
        transaction.set_rollback(True)
    assert (result.state, ran) == ("WAITING", [])


def test_ignored(declare: Declare) -> None:
    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
    assert task.delay(5).state == "SUCCESS"
    result = task.delay(5)
    assert isinstance(result, EagerResult)
    assert (result.state, result.get(), result.outcome) == ("IGNORED", None, Outcome.IGNORED)
    assert (result.ready(), result.successful(), result.failed()) == (True, False, False)
    assert task.delay(6).state == "SUCCESS"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_then(declare: Declare, when: str) -> None:
    task, called = declare(body, unique=True), []
    with transaction.atomic():
        result = task.delay_on_commit(5)
        if when == "before":
            result.then(called.append)
            assert called == []
    if when == "after":
        result.then(called.append)
    assert called == [result]


def test_revoke_and_forget_are_harmless(declare: Declare) -> None:
    result = declare(body, unique=True).delay(5)
    result.forget()
    assert result.get() == 5
    result.revoke()
    assert result.state == "REVOKED"


def test_pickled_result_keeps_what_it_knows(declare: Declare) -> None:
    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=60)
    for result, state in (
        (task.delay(5), "SUCCESS"),
        (task.delay(5), "IGNORED"),
        (task.delay("broken"), "FAILURE"),
    ):
        again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
        assert (again.id, again.state, again.invocation_id) == (result.id, state, result.invocation_id)
        assert again.get(propagate=False) == 5 if state == "SUCCESS" else True


@pytest.mark.parametrize("options", [{"unique": True}, {"ignore_task_timedelta": 60}, {}])
def test_canvas_runs_each_of_its_tasks(declare: Declare, options: dict[str, Any]) -> None:
    runs: list[Any] = []

    def run(x: Any = None) -> Any:
        runs.append(x)
        return x

    task = declare(run, **options)
    assert chain(task.si(7), task.si(7))().get() == 7
    assert runs == [7, 7]
    assert group(task.si(8), task.si(8))().get() == [8, 8]
    assert runs[2:] == [8, 8]
    assert chord([task.si(9), task.si(9)])(tasks.collect.s()).get() == [9, 9]
    assert runs[4:] == [9, 9]
    assert list(task.map([1, 2, 2]).delay().get()) == [1, 2, 2]
    assert runs[6:] == [1, 2, 2]


def test_ignored_step_of_an_eager_chain_gives_none_to_the_next(declare: Declare) -> None:
    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=60)
    task.delay(5)
    result = chain(task.si(5), tasks.collect.s())()
    assert result.get() is None, "Celery applies the steps of an eager chain one by one, without a mark of it"


def test_callbacks_run(declare: Declare) -> None:
    seen: list[Any] = []

    def link_to(x: Any) -> None:
        seen.append(x)

    link = declare(link_to)
    task = declare(body, unique=True)
    task.apply_async((5,), link=link.s())
    task.apply((6,), link=link.s())
    assert seen == [5, 6]
