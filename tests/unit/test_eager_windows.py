"""Ignore windows and claims of tasks that run where they are called."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.exceptions import TaskConfigurationError
from tests.project import tasks

if TYPE_CHECKING:
    from tests.unit.conftest import Declare


def body(x: Any = None) -> Any:
    if x == "broken":
        raise ValueError(x)
    return x


def test_success_opens_the_window_of_its_key(declare: Declare) -> None:
    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
    states = [task.delay(x).state for x in (5, 5, 6, "broken", "broken")]
    assert states == ["SUCCESS", "IGNORED", "SUCCESS", "FAILURE", "FAILURE"]
    assert task.apply((5,)).state == "IGNORED"
    assert task(5) == 5, "a plain call is a plain call"


@pytest.mark.parametrize("given", [None, timedelta(hours=2), 60])
def test_window_by_hand(declare: Declare, given: Any) -> None:
    def by_hand(self: Any, ignore: bool) -> None:
        if ignore:
            self.set_ignore_task(**({} if given is None else {"ignore_task_timedelta": given}))

    task = declare(by_hand, bind=True, ignore_task_timedelta=timedelta(hours=5))
    assert [task.delay(False).state for _ in range(2)] == ["SUCCESS", "SUCCESS"]
    assert [task.delay(True).state for _ in range(2)] == ["SUCCESS", "IGNORED"]


def test_window_by_hand_holds_though_the_body_fails(declare: Declare) -> None:
    def fails(self: Any) -> None:
        self.set_ignore_task()
        raise ValueError

    task = declare(fails, bind=True, ignore_task_timedelta=60)
    assert [task.delay().state for _ in range(2)] == ["FAILURE", "IGNORED"]


def test_retry_runs_though_its_task_has_opened_the_window(declare: Declare) -> None:
    def retried(self: Any) -> str:
        if not self.request.retries:
            self.set_ignore_task()
            raise self.retry(countdown=60)
        return "done"

    task = declare(retried, bind=True, ignore_task_timedelta=60)
    assert task.delay().get() == "done"
    assert task.delay().state == "IGNORED"


@pytest.mark.parametrize("bad", [0, -1, timedelta(), "5"])
def test_bad_window_by_hand_is_a_clear_error(declare: Declare, bad: Any) -> None:
    def by_hand(self: Any) -> None:
        self.set_ignore_task(ignore_task_timedelta=bad)

    task = declare(by_hand, bind=True, ignore_task_timedelta=60)
    with pytest.raises(TaskConfigurationError, match="ignore_task_timedelta"):
        task.delay().get()
    assert task.delay().state == "FAILURE", "no window was opened"


def test_window_by_hand_outside_of_a_run_or_of_a_task_that_looks_at_none(declare: Declare) -> None:
    task = declare(body, ignore_task_timedelta=60)
    with pytest.raises(TaskConfigurationError, match="outside of a run"):
        task.set_ignore_task()
    with pytest.raises(TaskConfigurationError, match="no ignore_task_timedelta"):
        tasks.silent.set_ignore_task(ignore_task_timedelta=60)


def test_claim_outside_of_a_run_is_a_clear_error(declare: Declare) -> None:
    def ask(self: Any) -> Any:
        return self.claim

    task = declare(ask, bind=True)
    for get in (lambda: task.claim, lambda: task.delay().get(), task, lambda: tasks.silent.claim):
        with pytest.raises(TaskConfigurationError, match="holds no claim"):
            get()
