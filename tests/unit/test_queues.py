"""Queues: names, `CeleryQueueEnum`, and the defaults that it brings."""

from __future__ import annotations

import pickle
import warnings
from typing import TYPE_CHECKING, Any

import kombu
import pytest
from celery.exceptions import QueueNotFound
from django.db import transaction

from django_celery_extensions.celery import CeleryQueueEnum
from django_celery_extensions.exceptions import CeleryError
from django_celery_extensions.task import DjangoTask
from tests.project import tasks
from tests.project.celery import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare, Queue

#: Celery 5.7 deprecates a plain name of a queue as an attribute of a task.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*The 'queue' task attribute")


class Q(CeleryQueueEnum):
    FAST = "fast", {"time_limit": 30, "stale_time_limit": 90}
    SLOW = "slow"
    KEEN = "keen", {"max_retries": 7, "unique": True, "default_retry_delay": 1}
    OWN = "own", {"autoretry_for": (ValueError,)}
    WRONG = "wrong", {"time_limitt": 5}


def body(x: Any = None) -> Any:
    return x


def test_member_is_the_name_of_its_queue() -> None:
    assert Q.FAST == "fast" == str(Q.FAST) == Q.FAST.queue_name == f"{Q.FAST}"
    assert Q("slow") is Q.SLOW
    assert pickle.loads(pickle.dumps(Q.FAST)) is Q.FAST  # noqa: S301 - our own
    assert dict(Q.SLOW.default_task_kwargs) == {}


@pytest.mark.parametrize("given", ["slow", Q.SLOW])
def test_queue_of_the_decorator(queue: Queue, declare: Declare, given: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error" if given is Q.SLOW else "ignore"
        )  # a plain name is Celery's to deprecate
        task = declare(body, queue=given)
    assert (type(task.queue), task.queue) == (str, "slow")
    result = task.delay(1)
    assert queue.ids("slow") == [result.id]


@pytest.mark.parametrize("given", ["slow", Q.SLOW])
def test_queue_of_a_base_class(queue: Queue, declare: Declare, given: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base = type("Base", (DjangoTask,), {"abstract": True, "queue": given})
        task = declare(body, base=base)
    result = task.delay(1)
    assert queue.ids("slow") == [result.id]


@pytest.mark.parametrize("given", ["slow", Q.SLOW])
@pytest.mark.django_db(transaction=True)
def test_queue_of_a_call(queue: Queue, declare: Declare, given: Any) -> None:
    task = declare(body, queue="other")
    sent = [
        task.apply_async((1,), queue=given),
        task.apply_async_on_commit((2,), queue=given),
        *task.apply_async_many([((3,), None), ((4,), None)], queue=given),
        task.s(5).apply_async(queue=given),
        task.s(6).set(queue=given).delay(),
    ]
    assert queue.ids("slow") == [result.id for result in sent]


def test_defaults_of_the_queue_apply_where_the_task_sets_none(declare: Declare) -> None:
    task = declare(body, queue=Q.FAST)
    assert (task.time_limit, task.stale_time_limit) == (30, 90)
    own = declare(body, name="declared.own", queue=Q.FAST, time_limit=5)
    assert (own.time_limit, own.stale_time_limit) == (5, 90)
    base = type("Base", (DjangoTask,), {"abstract": True, "time_limit": 6})
    assert declare(body, name="declared.inherits", base=base, queue=Q.FAST).time_limit == 6


def test_defaults_of_the_queue_of_a_base_class_apply(declare: Declare) -> None:
    base = type("Base", (DjangoTask,), {"abstract": True, "queue": Q.FAST})
    assert declare(body, base=base).time_limit == 30
    assert declare(body, name="declared.own", base=base, time_limit=5).time_limit == 5


@pytest.mark.parametrize(
    ("option", "value"), [("max_retries", 7), ("unique", True), ("default_retry_delay", 1)]
)
def test_defaults_beat_the_defaults_of_the_library(declare: Declare, option: str, value: Any) -> None:
    assert getattr(declare(body, queue=Q.KEEN), option) == value


def test_queue_default_of_a_call_goes_with_the_message(queue: Queue, declare: Declare) -> None:
    task = declare(body, unique=True)
    task.apply_async((1,), queue=Q.FAST)
    own = declare(body, name="declared.own", time_limit=5)
    own.apply_async((1,), queue=Q.FAST)
    asked = declare(body, name="declared.asked")
    asked.apply_async((1,), queue=Q.FAST, time_limit=6)
    limits = [message.headers["timelimit"][0] for message in queue.messages("fast")]
    assert limits == [30, 5, 6]


def test_stale_limit_of_the_queue_of_a_call_applies(queue: Queue, declare: Declare) -> None:
    task = declare(body, unique=True)
    task.apply_async((1,), queue=Q.FAST)
    (message,) = queue.messages("fast")
    assert "stale_time_limit" not in message.properties
    assert message.headers["dce"]["stale"] == 90


def test_unknown_default_is_refused_at_the_declaration(declare: Declare) -> None:
    with pytest.raises(CeleryError, match="time_limitt"):
        declare(body, queue=Q.WRONG)


def test_unknown_default_is_refused_at_a_call(queue: Queue) -> None:
    with pytest.raises(CeleryError, match="time_limitt"):
        tasks.add.apply_async((1, 2), queue=Q.WRONG)


def test_celerys_other_options_may_be_defaults(declare: Declare) -> None:
    assert declare(body, queue=Q.OWN).autoretry_for == (ValueError,)


@pytest.fixture
def known_queues_only(settings: SettingsWrapper) -> Iterator[None]:
    settings.CELERY_TASK_CREATE_MISSING_QUEUES = False
    vars(app).pop("amqp", None)
    yield
    vars(app).pop("amqp", None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("given", ["nope", Q.SLOW])
def test_unknown_queue_of_a_call_is_refused_at_the_call(
    queue: Queue, known_queues_only: None, given: Any
) -> None:
    with transaction.atomic():
        for send in (tasks.silent.apply_async, tasks.silent.apply_async_on_commit):
            with pytest.raises(QueueNotFound, match=str(given)):
                send(("a",), queue=given)
    assert not tasks.silent.is_processing(("a",))
    assert queue.ids(str(given)) == []


@pytest.mark.django_db(transaction=True)
def test_unknown_queue_of_a_task_is_refused_at_the_call(
    queue: Queue, declare: Declare, known_queues_only: None
) -> None:
    task = declare(body, queue="nope", unique=True)
    with transaction.atomic():
        with pytest.raises(QueueNotFound, match="nope"):
            task.delay_on_commit(1)
        transaction.set_rollback(True)


def test_alias_of_a_queue_is_known(queue: Queue, settings: SettingsWrapper, known_queues_only: None) -> None:
    settings.CELERY_TASK_QUEUES = [kombu.Queue("celery", alias="nick")]
    vars(app).pop("amqp", None)
    result = tasks.silent.apply_async(("a",), queue="nick")
    assert queue.ids("celery") == [result.id]


def test_unknown_queue_leaves_no_claim(queue: Queue, declare: Declare, known_queues_only: None) -> None:
    task = declare(body, queue="nope", unique=True)
    with pytest.raises(QueueNotFound, match="nope"):
        task.delay(1)
    assert not task.is_processing((1,))


def test_known_queue_passes(queue: Queue, declare: Declare, known_queues_only: None) -> None:
    assert queue.ids() == []
    result = tasks.silent.apply_async(("a",), queue="celery")
    assert queue.ids() == [result.id]


def test_missing_queues_are_made_by_default(queue: Queue) -> None:
    result = tasks.silent.apply_async(("a",), queue="made.up")
    assert queue.ids("made.up") == [result.id]


def test_queue_of_the_kombu_kind_passes(queue: Queue) -> None:
    from kombu import Queue as KombuQueue

    result = tasks.silent.apply_async(("a",), queue=KombuQueue("kombus"))
    assert queue.ids("kombus") == [result.id]
