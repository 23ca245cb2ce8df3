"""A project's code as a project would write it. mypy --strict reads it, nobody runs it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

from django_celery_extensions.celery import Celery, CeleryQueueEnum
from django_celery_extensions.claims import Claim
from django_celery_extensions.exceptions import (
    CeleryError,
    LeaseLost,
    NotTriggeredCeleryError,
    StoreUnavailable,
    UniqueTaskConflict,
)
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.results import InvocationResult
from django_celery_extensions.signals import invocation_triggered
from django_celery_extensions.task import (
    DjangoTask,
    default_unique_key_generator,
    get_django_command_task,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

app = Celery("proj")


class Queue(CeleryQueueEnum):
    """Queues, one with defaults."""

    FAST = "fast", {"time_limit": 10}
    SLOW = "slow"


assert_type(Queue.FAST.queue_name, str)


@app.task(
    unique=True,
    unique_keys=("user_pk",),
    unique_on_conflict="replace",
    unique_until="start",
    stale_time_limit=timedelta(minutes=5),
    default_retry_delays=(1, timedelta(seconds=2)),
    ignore_task_after_success=True,
    ignore_task_timedelta=timedelta(hours=5),
    queue=Queue.FAST,
)
def notify_user(user_pk: int) -> bool:
    return user_pk > 0


class LoggedTask(DjangoTask):
    """Hooks, options and a generator on a base class."""

    abstract = True
    unique = True
    stale_time_limit = 60
    ignore_task_timedelta = timedelta(hours=1)
    default_retry_delays = (1, 2.5, timedelta(minutes=1))

    def unique_key_generator(
        self, prefix: str, task_args: Sequence[Any] | None, task_kwargs: Mapping[str, Any] | None
    ) -> str:
        return default_unique_key_generator(self, prefix, task_args, task_kwargs) + ":mine"

    def on_invocation_trigger(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        print(invocation_id, task_id)  # noqa: T201

    def on_task_retry(
        self, task_id: str, args: Any, kwargs: Any, exc: Exception, eta: datetime | None
    ) -> None:
        super().on_task_retry(task_id, args, kwargs, exc, eta)


@app.task(base=LoggedTask, bind=True)
def rebuild(self: LoggedTask, report_pk: int) -> int:
    assert_type(self.claim, Claim)
    assert_type(self.claim.fence, int)
    assert_type(self.claim.lost, bool)
    self.claim.ensure()
    self.set_ignore_task()
    self.set_ignore_task(ignore_task_timedelta=timedelta(hours=2))
    return report_pk


def invoke(task: DjangoTask) -> None:
    assert_type(task.delay(5, key="value"), InvocationResult)
    result = task.delay_on_commit(5, key="value")
    assert_type(result, InvocationResult)
    assert_type(result.id, str)
    assert_type(result.invocation_id, "str | None")
    assert_type(result.outcome, Outcome)
    ignored = result.state == "IGNORED"
    assert_type(ignored, bool)
    assert_type(result.ready(), bool)
    assert_type(result.successful(), bool)
    task.apply_async_on_commit(args=(5,), kwargs={"a": 1}, using="other", countdown=5, queue=Queue.SLOW)
    task.apply_async((5,), {"a": 1}, stale_time_limit=5, unique_on_conflict="raise")
    value: int = task.apply_async_and_get_result((5,), timeout=5, propagate=False)
    assert_type(task.is_processing(args=(value,)), bool)
    assert_type(task.delay_many([(1,), (2,)]), "list[InvocationResult]")
    assert_type(
        task.apply_async_many([((1,), None), (None, {"a": 1})], countdown=1), "list[InvocationResult]"
    )
    assert_type(task.delay_many_on_commit([(1,)]), "list[InvocationResult]")
    assert_type(task.apply_async_many_on_commit([((1,), {})], using=None), "list[InvocationResult]")
    assert_type(get_django_command_task("clearsessions"), DjangoTask)
    task.s(5).set(queue=Queue.FAST).apply_async()


def go_wrong(task: DjangoTask, result: InvocationResult) -> str:
    try:
        task.delay_on_commit()
        result.get(timeout=1)
    except UniqueTaskConflict as exc:
        assert_type(exc.task_id, str)
        return exc.task_name
    except (NotTriggeredCeleryError, StoreUnavailable, LeaseLost):
        return "known"
    except CeleryError as exc:
        return str(exc)
    return "fine"


def receive(sender: type[DjangoTask], task: DjangoTask, task_id: str, **kwargs: Any) -> None:
    print(task.name, task_id)  # noqa: T201


invocation_triggered.connect(receive)
notify_user.delay(5)
rebuild.apply_async((5,), countdown=1)
