"""Tasks that run where they are called: `task_always_eager` and `apply()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Ignore, Reject

from django_celery_extensions.exceptions import UniqueTaskConflict
from django_celery_extensions.invocation import Outcome
from tests.project import tasks

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare, Heard, Queue

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def body(x: Any = None) -> Any:
    if x == "broken":
        raise ValueError(x)
    return x


@pytest.mark.parametrize("x", [5, "broken"])
@pytest.mark.parametrize("way", ["delay", "apply"])
def test_every_run_ends_its_claim(declare: Declare, way: str, x: Any) -> None:
    task = declare(body, unique=True)
    results = [task.delay(x) if way == "delay" else task.apply((x,)) for _ in range(3)]
    assert {result.outcome for result in results} == {Outcome.TRIGGERED}
    assert len({result.id for result in results}) == 3
    assert not task.is_processing((x,))


@pytest.mark.parametrize("error", [Ignore(), Reject("no", requeue=False), Reject("again", requeue=True)])
def test_run_that_is_given_up_ends_its_claim(declare: Declare, error: Exception) -> None:
    def give_up() -> None:
        raise error

    task = declare(give_up, unique=True)
    task.apply()
    assert not task.is_processing()


def test_key_is_held_while_the_body_runs(declare: Declare) -> None:
    seen: list[bool] = []

    def look(self: Any, x: int) -> int:
        seen.append(self.is_processing((x,)))
        seen.append(self.is_processing((x + 1,)))
        assert not self.claim.lost
        self.claim.ensure()
        return int(self.claim.fence)

    task = declare(look, bind=True, unique=True)
    assert task.delay(1).get() < task.delay(1).get(), "fences grow"
    assert seen == [True, False, True, False]


def test_body_that_calls_itself_joins_itself(declare: Declare) -> None:
    inner: list[Any] = []

    def again(self: Any, x: int) -> str:
        inner.append(self.delay(x))
        inner.append(self.apply((x,)))
        return "once"

    task = declare(again, bind=True, unique=True)
    result = task.delay(1)
    assert result.get() == "once"
    assert [(each.id, each.outcome) for each in inner] == [(result.id, Outcome.UNIQUE)] * 2
    assert not task.is_processing((1,))


def test_body_that_calls_itself_with_something_else_runs_it(declare: Declare) -> None:
    def countdown(self: Any, x: int) -> list[int]:
        below = self.delay(x - 1).result if x else []
        return [x, *below]

    task = declare(countdown, bind=True, unique=True)
    assert task.delay(3).get() == [3, 2, 1, 0]


def test_direct_call_inside_and_outside_of_a_body_is_a_plain_call(declare: Declare, heard: Heard) -> None:
    def direct(self: Any, x: int) -> list[Any]:
        return [x, *(self(x - 1) if x else [])]

    task = declare(direct, bind=True, unique=True)
    assert task(2) == [2, 1, 0]
    assert heard.names == []
    assert not task.is_processing((2,))
    assert task.delay(2).get() == [2, 1, 0]
    assert heard.names.count("task_started") == 1


def test_body_may_call_another_unique_task(declare: Declare) -> None:
    inner = declare(body, unique=True)

    def outer() -> Any:
        return [inner.delay(1).result, inner.apply((1,)).result, inner(1), inner.apply_async((2,)).result]

    task = declare(outer, unique=True)
    assert task.delay().get() == [1, 1, 1, 2]
    assert not inner.is_processing((1,))


@pytest.mark.parametrize(
    "options", [{"unique": True}, {"ignore_task_after_success": True, "ignore_task_timedelta": 60}]
)
def test_duplicate_with_a_callback_of_a_task_that_runs_here_is_an_error(
    declare: Declare, options: dict[str, Any]
) -> None:
    """Naive: it waits for that task to end, by calling itself."""

    def outer(self: Any) -> Any:
        duplicate = self.apply_async(link=tasks.note.si("called back"))
        assert isinstance(duplicate.result, UniqueTaskConflict)
        return f"{duplicate.state} for {duplicate.result.task_id}"

    task = declare(outer, bind=True, **options)
    result = task.delay()
    assert result.get() == f"FAILURE for {result.id}"


@pytest.mark.parametrize("way", ["autoretry", "retry"])
@pytest.mark.parametrize("options", [{"unique": True}, {"unique": True, "ignore_task_timedelta": 60}, {}])
def test_retries_keep_the_claim_and_run_to_the_end(
    declare: Declare, way: str, options: dict[str, Any]
) -> None:
    seen: list[tuple[int, str, bool]] = []

    def flaky(self: Any, x: int) -> str:
        held = self.is_processing((x,)) if self.policy.unique else True
        seen.append((self.request.retries, self.request.id, held))
        if self.request.retries < 2:
            if way == "autoretry":
                raise ValueError(x)
            raise self.retry()
        return "done"

    task = declare(flaky, bind=True, default_retry_delays=(60, 120), autoretry_for=(ValueError,), **options)
    result = task.delay(1)
    assert result.get() == "done"
    assert seen == [(0, result.id, True), (1, result.id, True), (2, result.id, True)]
    if options.get("unique"):
        assert not task.is_processing((1,))


def test_retries_that_run_out_fail_and_end_the_claim(declare: Declare) -> None:
    def flaky(self: Any) -> None:
        raise self.retry(exc=ValueError("at last"), countdown=0)

    task = declare(flaky, bind=True, unique=True, max_retries=2)
    result = task.delay()
    assert isinstance(result.result, ValueError)
    assert result.state == "FAILURE"
    assert not task.is_processing()


def test_retry_that_does_not_reach_its_body_leaves_no_claim(declare: Declare) -> None:
    """Naive: whoever has seen the first run start leaves the rest to it."""

    def refuse(task: Any, *_: Any) -> None:
        if task.request.retries:
            raise RuntimeError

    def flaky(self: Any) -> None:
        raise self.retry(countdown=0)

    task = declare(flaky, bind=True, unique=True, max_retries=2, before_start=refuse)
    assert isinstance(task.apply().result, RuntimeError)
    assert not task.is_processing()


# errors go where Celery lets them go


def test_errors_propagate_where_celery_is_told_so(declare: Declare, settings: SettingsWrapper) -> None:
    task = declare(body, unique=True)
    with pytest.raises(ValueError, match="broken"):
        task.apply(("broken",), throw=True)
    assert not task.is_processing(("broken",))
    settings.CELERY_TASK_EAGER_PROPAGATES = True
    with pytest.raises(ValueError, match="broken"):
        task.delay("broken")
    settings.CELERY_TASK_EAGER_PROPAGATES = False
    assert not task.is_processing(("broken",))
    assert task.delay("broken").state == "FAILURE"


# a claim that somebody else holds


def test_apply_beside_a_queued_task_joins_it(queue: Queue) -> None:
    first = tasks.silent.delay("a")
    second = tasks.silent.apply(("a",))
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    assert tasks.silent.is_processing(("a",)), "the claim of the queued task is its own"
    with pytest.raises(UniqueTaskConflict):
        tasks.silent.apply(("a",), unique_on_conflict="raise")
    assert tasks.silent.apply(("a",), unique_on_conflict="skip").state == "IGNORED"
    assert tasks.silent.apply(("a",), unique_on_conflict="replace").get() == "a"
