"""Options of a single call: what is refused, before anything was claimed or sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_celery_extensions.exceptions import CeleryError, InvalidOption, TaskConfigurationError
from django_celery_extensions.options import CALL_OPTIONS, TASK_OPTIONS
from django_celery_extensions.testing import forget_claim
from tests.project import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Declare, Heard, Queue

WAYS: dict[str, Callable[..., Any]] = {
    "apply_async": lambda task, **options: task.apply_async(("a",), **options),
    "on commit": lambda task, **options: task.apply_async_on_commit(("a",), **options),
    "and get result": lambda task, **options: task.apply_async_and_get_result(("a",), **options),
    "apply": lambda task, **options: task.apply(("a",), **options),
    "many": lambda task, **options: task.apply_async_many([(("a",), None)], **options),
    "many on commit": lambda task, **options: task.apply_async_many_on_commit([(("a",), None)], **options),
    "signature": lambda task, **options: task.s("a").apply_async(**options),
    "signature's own": lambda task, **options: task.s("a").set(**options).apply_async(),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    way: Callable[..., Any] = request.param
    return way


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("option", "likely"),
    [
        ("stale_timelimit", "stale_time_limit"),
        ("stale_time_limits", "stale_time_limit"),
        ("unique_on_conflicts", "unique_on_conflict"),
        ("max_queue_wait_time", "max_queue_waiting_time"),
        ("unique_on_stor_error", "unique_on_store_error"),
    ],
)
def test_misspelt_option_of_ours_names_the_likely_one(
    call: Callable[..., Any], heard: Heard, option: str, likely: str
) -> None:
    with pytest.raises(InvalidOption, match=rf"silent: unknown option '{option}'; did you mean '{likely}'"):
        call(tasks.silent, **{option: 5})
    assert heard.names == []
    assert not tasks.silent.is_processing(("a",))


@pytest.mark.parametrize("option", ["countdwon", "expire", "prioritys", "time_limits", "link_eror"])
def test_misspelt_option_of_celery_names_the_likely_one(heard: Heard, option: str) -> None:
    with pytest.raises(InvalidOption, match="did you mean"):
        tasks.silent.apply_async(("a",), **{option: 5})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("option", sorted(set(TASK_OPTIONS) - CALL_OPTIONS - {"queue"}))
def test_option_of_the_task_is_refused_at_a_call(call: Callable[..., Any], heard: Heard, option: str) -> None:
    with pytest.raises(InvalidOption, match=rf"'{option}' is an option of the task") as caught:
        call(tasks.silent, **{option: True})
    assert "stale_time_limit" in str(caught.value), "it names what a call can give"
    assert heard.names == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("unique_on_conflict", "jion"),
        ("unique_on_store_error", ""),
        ("stale_time_limit", 0),
        ("stale_time_limit", -1),
        ("stale_time_limit", timedelta()),
        ("stale_time_limit", "60"),
        ("max_queue_waiting_time", 0),
        ("max_queue_waiting_time", -1),
        ("max_queue_waiting_time", "5"),
    ],
)
def test_bad_value_is_refused_before_anything_happens(
    call: Callable[..., Any], heard: Heard, option: str, value: Any
) -> None:
    with pytest.raises(CeleryError, match=option):
        call(tasks.silent, **{option: value})
    assert heard.names == []
    assert not tasks.silent.is_processing(("a",))


@pytest.mark.parametrize("option", ["stale_time_limit", "max_queue_waiting_time"])
def test_bad_limit_of_a_task_that_is_not_unique_is_refused(option: str) -> None:
    with pytest.raises(CeleryError, match=option):
        tasks.add.apply_async((1, 2), **{option: -1})


def test_none_means_not_given(declare: Declare) -> None:
    result = tasks.silent.apply_async(("a",), stale_time_limit=None, max_queue_waiting_time=None)
    assert result.get() == "a"


def test_our_options_do_not_reach_celery(queue: Queue) -> None:
    tasks.silent.apply_async(
        ("a",),
        stale_time_limit=50,
        max_queue_waiting_time=5,
        unique_on_conflict="skip",
        unique_on_store_error="publish",
    )
    (message,) = queue.messages()
    assert not CALL_OPTIONS & {*message.headers, *message.properties}


@pytest.mark.parametrize("way", ["delay_many", "delay_many_on_commit"])
@pytest.mark.parametrize("calls", [[1, 2], ["abc"], [{"x": 1}], [("a",), None, 1]])
@pytest.mark.parametrize("task", [tasks.add, tasks.silent])
@pytest.mark.django_db(transaction=True)
def test_call_of_many_that_is_no_sequence_of_arguments_is_refused(
    queue: Queue, heard: Heard, way: str, task: Any, calls: list[Any]
) -> None:
    """Naive: delay_many([1]) calls task(1, None)."""
    with pytest.raises(TypeError, match="task args must be a list or tuple, not|missing a required|argument"):
        getattr(task, way)(calls)
    assert heard.names == []
    assert queue.ids() == []


def test_progress_that_is_no_function_is_refused_before_anything_happens(queue: Queue, heard: Heard) -> None:
    with pytest.raises(InvalidOption, match="progress is 5"):
        tasks.silent.delay_many([("a",)], progress=5)
    assert (heard.names, queue.ids()) == ([], [])


@pytest.mark.parametrize("name", ["countdown", "expires"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("task", [tasks.add, tasks.silent])
def test_time_that_leads_to_no_date_is_refused(
    queue: Queue, heard: Heard, task: Any, name: str, value: float
) -> None:
    with pytest.raises(InvalidOption, match=f"{name} is .*which leads to no date"):
        task.apply_async((1, 2)[: 1 + (task is tasks.add)], **{name: value})
    assert (heard.names, queue.ids()) == ([], [])


def test_database_of_a_call_that_does_not_wait_for_its_commit_is_refused(queue: Queue, heard: Heard) -> None:
    """Naive: it is sent at once."""
    for way in (tasks.silent.apply_async, tasks.add.apply_async):
        with pytest.raises(InvalidOption, match="'using' is an option of the calls on commit"):
            way((1,), using="default")
    assert (heard.names, queue.ids()) == ([], [])


@pytest.mark.parametrize("timeout", ["x", timedelta(seconds=1), True])
def test_timeout_that_is_no_number_is_refused_before_anything_happens(
    queue: Queue, heard: Heard, timeout: Any
) -> None:
    with pytest.raises(InvalidOption, match="timeout is "):
        tasks.silent.apply_async_and_get_result(("a",), timeout=timeout)
    assert (heard.names, queue.ids()) == ([], [])


@pytest.mark.parametrize("args", ["a", 5])
def test_arguments_of_a_question_are_checked_too(queue: Queue, args: Any) -> None:
    tasks.silent.delay("a")
    for ask in (tasks.silent.is_processing, lambda args: forget_claim(tasks.silent, args)):
        with pytest.raises(TypeError, match="task args must be a list or tuple"):
            ask(args)
    assert tasks.silent.is_processing(("a",))


@pytest.mark.parametrize("way", ["apply_async", "apply_async_on_commit", "apply_async_many"])
@pytest.mark.parametrize("headers", [5, "ab", [1]])
@pytest.mark.django_db(transaction=True)
def test_headers_that_are_none_are_refused(queue: Queue, heard: Heard, way: str, headers: Any) -> None:
    """Naive: they are met when the message is made, and the claim stays."""
    args = [("a",), ("b",)] if way == "apply_async_many" else ("a",)
    with pytest.raises(InvalidOption, match="headers is "):
        getattr(tasks.silent, way)(args, headers=headers)
    assert heard.names == []
    assert not tasks.silent.is_processing(("a",))


@pytest.mark.parametrize("task", [tasks.add, tasks.silent])
def test_headers_may_be_pairs(queue: Queue, task: Any) -> None:
    task.apply_async((1, 2)[: 1 + (task is tasks.add)], headers=[("x", 1)])
    (message,) = queue.messages()
    assert message.headers["x"] == 1


@pytest.mark.parametrize(
    "options",
    [{"task_id": ""}, {"task_id": 0}, {"compression": ""}, {"queue": ""}, {"countdown": False}],
    ids=str,
)
def test_what_celery_takes_for_not_given_is_not_given(queue: Queue, options: dict[str, Any]) -> None:
    for number in range(2):
        result = tasks.silent.apply_async((number,), **options)
        message = queue.messages()[-1]
        assert message.task_id == result.id
        assert len(result.id) == 36
        assert message.headers["eta"] is None
    assert tasks.silent.apply_async([], {}).outcome == "triggered"
    assert tasks.silent.apply_async({}, []).outcome == "unique"


def test_surplus_positional_arguments_are_refused(queue: Queue) -> None:
    with pytest.raises(TypeError, match="at most 7 positional arguments are taken, and 8 were given"):
        tasks.silent.apply_async((), {}, "id", None, None, None, None, "surplus")
    with pytest.raises(TypeError, match="multiple values for argument 'task_id'"):
        tasks.silent.apply_async((), {}, "id", task_id="other")
    with pytest.raises(TypeError, match="at most 10 positional"):
        tasks.silent.apply((), {}, *range(9))
    assert queue.ids() == []


@pytest.mark.parametrize("args", ["abc", 5, {"x": 1}, {1, 2}, b"a"])
@pytest.mark.parametrize("task", [tasks.add, tasks.silent])
def test_arguments_that_are_no_sequence_are_refused(heard: Heard, task: Any, args: Any) -> None:
    with pytest.raises(TypeError, match=rf"{task.name}: task args must be a list or tuple, not "):
        task.apply_async(args)
    assert heard.names == []


@pytest.mark.parametrize("kwargs", ["abc", 5, [("key", 1)]])
def test_keyword_arguments_that_are_no_mapping_are_refused(heard: Heard, kwargs: Any) -> None:
    with pytest.raises(TypeError, match=r"silent: task keyword arguments must be a mapping, not "):
        tasks.silent.apply_async((), kwargs)
    assert heard.names == []


@pytest.mark.django_db(transaction=True)
def test_arguments_that_the_body_does_not_take_are_refused_at_the_call(
    queue: Queue, heard: Heard, declare: Declare
) -> None:
    for send in (
        lambda: tasks.silent.delay(1, 2, 3),
        lambda: tasks.silent.delay_on_commit(nope=1),
        lambda: tasks.add.delay_on_commit(1),
        lambda: tasks.add.delay_many([(1, 2), (1,)]),
    ):
        with transaction.atomic(), pytest.raises(TypeError):
            send()
    assert queue.ids() == []


def test_many_calls_are_checked_before_the_first_is_sent(queue: Queue) -> None:
    with pytest.raises(TypeError):
        tasks.silent.apply_async_many([(("a",), None), (("b",), None), ((1, 2, 3), None)])
    assert queue.ids() == []
    assert not tasks.silent.is_processing(("a",))


def test_many_calls_can_not_share_a_task_id() -> None:
    with pytest.raises(InvalidOption, match="task_id"):
        tasks.silent.apply_async_many([(("a",), None)], task_id="one")


def test_is_processing_of_a_task_that_is_not_unique_is_a_clear_error() -> None:
    for task in (tasks.add, tasks.ignored_after_success):
        with pytest.raises(TaskConfigurationError, match=rf"{task.name} is not unique.*unique=True"):
            task.is_processing((1, 2))


def test_transports_own_options_pass(queue: Queue) -> None:
    tasks.silent.apply_async(("a",), headers={"mine": 1}, MessageGroupId="g", MessageDeduplicationId="d")
    (message,) = queue.messages()
    assert message.headers["mine"] == 1
    assert message.properties["MessageGroupId"] == "g"
    assert message.properties["MessageDeduplicationId"] == "d"
