"""Options of a task: what is refused where the task is declared, and what is not."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import CDeprecationWarning, Retry

from django_celery_extensions.exceptions import InvalidOption, TaskConfigurationError
from django_celery_extensions.options import TASK_OPTIONS
from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from tests.unit.conftest import Declare, Queue


def body(x: Any = None) -> Any:
    return x


def subclass(**attributes: Any) -> type[DjangoTask]:
    return type("Base", (DjangoTask,), {"abstract": True, **attributes})


MISSPELT = [
    ("uniqe", "unique"),
    ("unique_key", "unique_keys"),
    ("unique_key_genrator", "unique_key_generator"),
    ("unique_on_conflicts", "unique_on_conflict"),
    ("stale_timelimit", "stale_time_limit"),
    ("default_retry_delais", "default_retry_delays"),
    ("ignore_task_after_sucess", "ignore_task_after_success"),
    ("lease_time_out", "lease_timeout"),
    ("max_retrys", "max_retries"),
    ("auto_retry_for", "autoretry_for"),
    ("rate_limits", "rate_limit"),
    ("soft_time_limt", "soft_time_limit"),
]


@pytest.mark.parametrize(("wrong", "right"), MISSPELT)
def test_misspelt_option_of_the_decorator_names_the_likely_one(
    declare: Declare, wrong: str, right: str
) -> None:
    with pytest.raises(
        TaskConfigurationError, match=f"unknown option '{wrong}'; did you mean '{right}'"
    ) as caught:
        declare(body, **{wrong: True})
    assert "declared.body" in str(caught.value)


@pytest.mark.parametrize(("wrong", "right"), MISSPELT)
def test_misspelt_attribute_of_a_class_names_the_likely_one(wrong: str, right: str) -> None:
    with pytest.raises(TaskConfigurationError, match=f"did you mean '{right}'"):
        subclass(**{wrong: True})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("unique", "yes"),
        ("unique", None),
        ("unique_on_conflict", "jion"),
        ("unique_on_conflict", None),
        ("unique_on_conflict", ""),
        ("unique_until", "end"),
        ("unique_on_store_error", "ignore"),
        ("ignore_task_after_success", "yes"),
    ],
)
def test_value_that_an_option_can_not_have_is_refused(declare: Declare, option: str, value: Any) -> None:
    choices = TASK_OPTIONS[option]
    assert choices is not None
    for make in (lambda: declare(body, **{option: value}), lambda: subclass(**{option: value})):
        with pytest.raises(TaskConfigurationError, match=f"{option} is {value!r}; it can be") as caught:
            make()
        assert repr(choices[0]) in str(caught.value)


@pytest.mark.parametrize("option", ["stale_time_limit", "max_queue_waiting_time", "lease_timeout"])
@pytest.mark.parametrize("value", [0, -1, timedelta(), timedelta(seconds=-1), "60", True, float("nan")])
def test_duration_that_is_none_is_refused(declare: Declare, option: str, value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match=rf"declared\.body: {option} is"):
        declare(body, **{option: value})
    with pytest.raises(TaskConfigurationError, match=option):
        declare(body, name="declared.inherits", base=subclass(**{option: value}))


@pytest.mark.parametrize("value", [0, -1, timedelta(), "5h", timedelta(seconds=-1)])
def test_ignore_window_must_last(declare: Declare, value: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="ignore_task_timedelta"):
        declare(body, ignore_task_timedelta=value, ignore_task_after_success=True)


def test_ignoring_after_success_needs_to_know_how_long(declare: Declare) -> None:
    with pytest.raises(
        TaskConfigurationError, match="ignore_task_after_success needs an ignore_task_timedelta"
    ):
        declare(body, ignore_task_after_success=True)


@pytest.mark.parametrize("delays", [(1, -1), [timedelta(seconds=-1)], ("1", "2"), (None,), (float("inf"),)])
def test_bad_retry_delay_is_refused_by_its_index(declare: Declare, delays: Any) -> None:
    index = len(delays) - 1 if delays != ("1", "2") else 0
    with pytest.raises(TaskConfigurationError, match=rf"default_retry_delays\[{index}\]"):
        declare(body, default_retry_delays=delays)


def test_retry_may_come_at_once(queue: Queue, declare: Declare) -> None:
    def retried(self: Any) -> None:
        raise self.retry()

    task = declare(retried, bind=True, default_retry_delays=(0, timedelta()))
    assert task.max_retries == 2
    task.push_request(id="i", called_directly=False, args=(), kwargs={}, is_eager=False, delivery_info={})
    try:
        with pytest.raises(Retry):
            task.retry()
    finally:
        task.pop_request()
    assert queue.ids() == ["i"]


def test_misspelt_option_of_a_retry_names_the_likely_one(declare: Declare) -> None:
    def retried(self: Any) -> None:
        raise self.retry(cuontdown=3)

    with pytest.raises(InvalidOption, match="unknown option 'cuontdown'; did you mean 'countdown'"):
        declare(retried, bind=True).delay().get()


@pytest.mark.parametrize("delays", [60, timedelta(seconds=1), True])
def test_retry_delays_that_are_no_sequence_are_a_clear_error(declare: Declare, delays: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="default_retry_delays"):
        declare(body, default_retry_delays=delays)


def test_refusal_on_a_base_class_comes_before_any_task(declare: Declare) -> None:
    with pytest.raises(TaskConfigurationError):
        subclass(unique_on_conflict="jion")


#: Celery 5.7 deprecates a plain name of a queue as an attribute of a task.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*The 'queue' task attribute")

CELERYS_OWN = {
    "autoretry_for": (ValueError,),
    "dont_autoretry_for": (KeyError,),
    "retry_kwargs": {"max_retries": 1},
    "retry_backoff": True,
    "retry_backoff_max": 10,
    "retry_jitter": False,
    "rate_limit": "10/m",
    "acks_late": True,
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": True,
    "track_started": True,
    "ignore_result": True,
    "store_errors_even_if_ignored": True,
    "store_eager_result": True,
    "send_events": False,
    "serializer": "json",
    "compression": "gzip",
    "time_limit": 10,
    "soft_time_limit": 5,
    "max_retries": 2,
    "default_retry_delay": 3,
    "expires": 60,
    "throws": (ValueError,),
    "trail": False,
    "typing": False,
    "resultrepr_maxsize": 10,
    "queue": "other",
    "mandatory": True,
    "immediate": False,
    "retry_policy": {"max_retries": 1},
    "Strategy": "celery.worker.strategy:default",
}


@pytest.mark.parametrize("option", CELERYS_OWN)
def test_every_option_of_celery_is_accepted(declare: Declare, option: str) -> None:
    task = declare(body, **{option: CELERYS_OWN[option]})
    assert getattr(task, option) is not None
    assert task.apply((1,)).get() == 1


@pytest.mark.parametrize(
    ("option", "value"), [("exchange", "e"), ("routing_key", "r"), ("delivery_mode", 1), ("priority", 3)]
)
def test_options_that_celery_wants_to_drop_still_work(declare: Declare, option: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CDeprecationWarning)  # Celery 5.7's own, and ours to leave alone
        task = declare(body, **{option: value})
    assert getattr(task, option) == value


def test_all_options_of_celery_together(declare: Declare) -> None:
    declare(body, **CELERYS_OWN)


def test_pydantic_tasks_are_accepted(declare: Declare) -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Order", number=(int, ...))

    def ship(order: Any) -> int:
        return int(order.number)

    ship.__annotations__["order"] = model
    task = declare(ship, pydantic=True, unique=True)
    assert task.delay({"number": 6}).get() == 6
    if not hasattr(task, "_dump_pydantic_arguments"):
        pytest.skip("Celery takes models as arguments from 5.7 on")
    assert task.delay(model(number=5)).get() == 5


def test_attributes_of_ones_own_are_accepted_on_base_classes(declare: Declare) -> None:
    base = subclass(tenant="a", uniqueness="own", report_to=None, names=("x",))
    task = declare(body, base=base, tenant="b", names=("y",))
    assert (task.tenant, task.report_to, task.names) == ("b", None, ("y",))


def test_annotated_attributes_of_a_base_class_are_accepted(declare: Declare) -> None:
    base = subclass(__annotations__={"uniques": int})
    assert declare(body, base=base, uniques=3).uniques == 3


def test_attributes_like_nothing_we_know_are_accepted_in_the_decorator(declare: Declare) -> None:
    assert declare(body, tenant="a", colour=3).colour == 3


def test_methods_of_ones_own_are_no_options(declare: Declare) -> None:
    base = subclass(uniques=lambda self: 5, expire=lambda self: 6)
    assert declare(body, base=base).uniques() == 5
