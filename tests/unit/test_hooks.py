"""Hooks and signals: which, in which order, with what."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.db import transaction

from django_celery_extensions.exceptions import UniqueTaskConflict
from django_celery_extensions.task import DjangoTask
from tests.project.celery import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Declare, Heard, Queue

#: The arguments of each hook, as the usage page has them.
HOOKS = {
    "on_invocation_apply": "invocation_id args kwargs options result",
    "on_invocation_trigger": "invocation_id args kwargs task_id options result",
    "on_invocation_unique": "invocation_id args kwargs task_id options result",
    "on_invocation_ignored": "invocation_id args kwargs task_id options result",
    "on_invocation_timeout": "invocation_id args kwargs task_id ex options result",
    "on_task_start": "task_id args kwargs",
    "on_task_retry": "task_id args kwargs exc eta",
    "on_task_failure": "task_id args kwargs exc einfo",
    "on_task_success": "task_id args kwargs retval",
}

Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def calls() -> Iterator[Calls]:
    record: Calls = []
    Recording.record = record
    yield record
    Recording.record = None


class Recording(DjangoTask):
    """Writes down each call of a hook, and lets the body do so too."""

    abstract = True
    record: Calls | None = None


def _hook(name: str, arguments: str) -> Any:
    def hook(self: Recording, *values: Any, **named: Any) -> None:
        assert self.record is not None
        self.record.append((name, {**dict(zip(arguments.split(), values, strict=True)), **named}))

    return hook


for _name, _arguments in HOOKS.items():
    setattr(Recording, _name, _hook(_name, _arguments))


def names(calls: Calls) -> list[str]:
    return [name for name, _ in calls]


def body(self: Any, x: Any = None, *, retries: int = 0) -> Any:
    self.record.append(("body", {"x": x}))
    if x == "broken":
        raise ValueError(x)
    if self.request.retries < retries:
        raise self.retry(countdown=30, exc=KeyError("later"))
    return x


EAGER = ["on_invocation_apply", "on_invocation_trigger", "on_task_start", "body", "on_task_success"]
each_way = pytest.mark.parametrize("way", ["delay", "apply_async", "apply", "delay_many", "delay_on_commit"])
each_kind = pytest.mark.parametrize(
    "options",
    [{}, {"unique": True}, {"ignore_task_timedelta": 60}, {"unique": True, "ignore_task_timedelta": 60}],
)


def invoke(task: Any, way: str, *args: Any) -> Any:
    if way in ("apply_async", "apply"):
        return getattr(task, way)(args)
    if way == "delay_many":
        return task.delay_many([args])[0]
    return getattr(task, way)(*args)


@pytest.mark.django_db(transaction=True)
@each_way
@each_kind
def test_success_tells_each_hook_once_in_order(
    declare: Declare, calls: Calls, heard: Heard, way: str, options: dict[str, Any]
) -> None:
    task = declare(body, bind=True, base=Recording, **options)
    result = invoke(task, way, 5)
    assert names(calls) == EAGER
    told = dict(calls)
    assert told["on_invocation_apply"]["result"] is result
    assert told["on_invocation_trigger"]["result"] is result
    assert uuid.UUID(result.invocation_id).version == uuid.UUID(result.id).version == 4
    assert uuid.UUID(result.id).variant == uuid.RFC_4122
    for name in EAGER[:2]:
        assert told[name]["invocation_id"] == result.invocation_id
        assert list(told[name]["args"]) == [5]
        assert told[name]["kwargs"] == {}
        assert isinstance(told[name]["options"], dict)
    assert told["on_invocation_trigger"]["task_id"] == result.id
    assert told["on_task_start"]["task_id"] == told["on_task_success"]["task_id"] == result.id
    assert list(told["on_task_success"]["args"]) == [5]
    assert told["on_task_success"]["retval"] == 5
    assert heard.names == ["invocation_applied", "invocation_triggered", "task_started", "task_succeeded"]


@each_kind
def test_failure(declare: Declare, calls: Calls, heard: Heard, options: dict[str, Any]) -> None:
    task = declare(body, bind=True, base=Recording, **options)
    result = task.delay("broken")
    assert names(calls) == [*EAGER[:-1], "on_task_failure"]
    told = dict(calls)["on_task_failure"]
    assert (told["task_id"], list(told["args"]), told["kwargs"]) == (result.id, ["broken"], {})
    assert isinstance(told["exc"], ValueError)
    assert "broken" in str(told["einfo"])
    assert heard.names[-1] == "task_failed"


@each_kind
def test_retry_is_no_new_invocation(
    declare: Declare, calls: Calls, heard: Heard, options: dict[str, Any]
) -> None:
    task = declare(body, bind=True, base=Recording, **options)
    result = task.apply_async((5,), {"retries": 2})
    assert result.get() == 5
    once = ["on_task_start", "body", "on_task_retry"]
    ending = ["on_task_start", "body", "on_task_success"]
    # Celery runs a retry within the failed try, and tells of that one when the retry has ended.
    assert sorted(names(calls)) == sorted([*EAGER[:2], *once, *once, *ending])
    assert names(calls)[:2] == EAGER[:2]
    assert heard.names.count("invocation_applied") == heard.names.count("invocation_triggered") == 1
    for told in (arguments for name, arguments in calls if name == "on_task_retry"):
        assert told["task_id"] == result.id
        assert isinstance(told["exc"], KeyError)
    assert {told["task_id"] for name, told in calls if name.startswith("on_task")} == {result.id}


@each_kind
def test_retry_tells_when_it_comes(declare: Declare, calls: Calls, options: dict[str, Any]) -> None:
    task = declare(body, bind=True, base=Recording, **options)
    before = app.now()
    task.apply_async((5,), {"retries": 1})
    told = dict(calls)["on_task_retry"]
    assert isinstance(told["eta"], datetime)
    assert before + timedelta(seconds=29) < told["eta"] < app.now() + timedelta(seconds=31)


def test_task_that_calls_itself_makes_two_invocations(declare: Declare, calls: Calls) -> None:
    def twice(self: Any, x: int) -> None:
        if x:
            self.apply_async((x - 1,))

    task = declare(twice, bind=True, base=Recording)
    task.delay(1)
    told = [arguments["invocation_id"] for name, arguments in calls if name == "on_invocation_apply"]
    assert len(set(told)) == 2
    assert names(calls).count("on_invocation_trigger") == 2


def test_direct_call_tells_nothing(declare: Declare, calls: Calls, heard: Heard) -> None:
    for number, options in enumerate(({}, {"unique": True})):
        task = declare(body, bind=True, base=Recording, name=f"declared.{number}", **options)
        assert task(5) == 5
    assert names(calls) == ["body", "body"]
    assert heard.names == []


# with a real queue


def test_message_is_not_there_yet_when_the_trigger_hook_runs(queue: Queue, declare: Declare) -> None:
    seen: list[list[str]] = []

    class Base(DjangoTask):
        abstract = True

        def on_invocation_trigger(self, *args: Any) -> None:
            seen.append(queue.ids())

    result = declare(body, bind=True, base=Base).delay()
    assert (seen, queue.ids()) == ([[]], [result.id])


@pytest.mark.django_db(transaction=True)
def test_joined_call(queue: Queue, declare: Declare, calls: Calls, heard: Heard) -> None:
    task = declare(body, bind=True, base=Recording, unique=True)
    first = task.delay(5)
    calls.clear()
    with transaction.atomic():
        second = task.apply_async_on_commit((5,), {"retries": 0}, countdown=3)
        assert names(calls) == ["on_invocation_apply"], (
            "it was applied now, and what comes of it is not known"
        )
    assert names(calls) == ["on_invocation_apply", "on_invocation_unique"]
    told = dict(calls)["on_invocation_unique"]
    assert told["task_id"] == first.id
    assert (
        told["invocation_id"] == second.invocation_id == dict(calls)["on_invocation_apply"]["invocation_id"]
    )
    assert (list(told["args"]), told["kwargs"], told["options"]["countdown"]) == ([5], {"retries": 0}, 3)
    assert told["result"] is second
    assert heard.names[-1] == "invocation_unique"
    assert heard["invocation_unique"]["sender"] is type(task)
    assert heard["invocation_unique"]["task"] is task
    assert heard["invocation_unique"]["task_id"] == first.id


def test_refused_duplicate_is_told_too(queue: Queue, declare: Declare, calls: Calls) -> None:
    task = declare(body, bind=True, base=Recording, unique=True, unique_on_conflict="raise")
    first = task.delay(5)
    calls.clear()
    with pytest.raises(UniqueTaskConflict, match=f"declared.body.*{first.id}") as caught:
        task.delay(5)
    assert (caught.value.task_id, caught.value.task_name) == (first.id, "declared.body")
    assert names(calls) == ["on_invocation_apply", "on_invocation_unique"]
    assert queue.ids() == [first.id]


def test_ignored_call(queue: Queue, declare: Declare, calls: Calls, heard: Heard) -> None:
    task = declare(body, bind=True, base=Recording, ignore_task_after_success=True, ignore_task_timedelta=60)
    first = task.apply((5,))
    calls.clear()
    second = task.delay(5)
    assert names(calls) == ["on_invocation_apply", "on_invocation_ignored"]
    told = dict(calls)["on_invocation_ignored"]
    assert (told["invocation_id"], told["result"]) == (second.invocation_id, second)
    assert told["task_id"] == first.id, "the task that opened the window"
    assert heard.names[-2:] == ["invocation_applied", "invocation_ignored"]
    assert queue.ids() == []


@pytest.mark.parametrize("timeout", [0.05, 0, -1])
def test_timeout(queue: Queue, declare: Declare, calls: Calls, heard: Heard, timeout: float) -> None:
    task = declare(body, bind=True, base=Recording, unique=True)
    with pytest.raises(CeleryTimeoutError) as caught:
        task.apply_async_and_get_result((5,), timeout=timeout)
    assert names(calls) == ["on_invocation_apply", "on_invocation_trigger", "on_invocation_timeout"]
    told = dict(calls)["on_invocation_timeout"]
    assert told["ex"] is caught.value
    assert [told["task_id"]] == queue.ids()
    assert told["invocation_id"] == dict(calls)["on_invocation_apply"]["invocation_id"]
    assert told["result"].id == told["task_id"]
    assert heard.names[-1] == "invocation_timed_out"


def test_timeout_of_a_joined_call_names_the_active_task(queue: Queue, declare: Declare, calls: Calls) -> None:
    task = declare(body, bind=True, base=Recording, unique=True)
    first = task.delay(5)
    with pytest.raises(CeleryTimeoutError):
        task.apply_async_and_get_result((5,), timeout=0.05)
    assert calls[-1][0] == "on_invocation_timeout"
    assert calls[-1][1]["task_id"] == first.id
