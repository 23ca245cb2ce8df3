"""The helpers for the tests of a project, and the names that this release only keeps."""

from __future__ import annotations

import pytest
from celery.beat import Service
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from django_celery_extensions.beat import LockedPersistentScheduler
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.testing import capture_invocations, forget_claim
from tests.project import tasks
from tests.project.celery import app


@pytest.mark.django_db(transaction=True)
def test_invocations_are_captured_in_order_and_tell_how_they_end() -> None:
    with capture_invocations() as calls:
        tasks.add.delay(1, 2)
        with transaction.atomic():
            tasks.silent.delay_on_commit("a")
            assert calls[1].outcome is Outcome.WAITING
    assert [(call.task, call.args) for call in calls] == [
        (tasks.add.name, (1, 2)),
        (tasks.silent.name, ("a",)),
    ]
    assert [call.outcome for call in calls] == [Outcome.TRIGGERED] * 2
    tasks.add.delay(3, 4)
    assert len(calls) == 2, "nothing is captured after the block"


def test_only_the_tasks_that_are_named_are_captured() -> None:
    with capture_invocations(tasks.silent) as calls:
        tasks.add.delay(1, 2)
        tasks.silent.delay("b")
    assert [call.task for call in calls] == [tasks.silent.name]


def test_forgotten_window_lets_the_next_call_run() -> None:
    task = tasks.ignored_by_hand
    task.apply((7,))
    assert task.apply((7,)).state == "IGNORED"
    forget_claim(task, (7,))
    assert task.apply((7,)).state == "SUCCESS"
    forget_claim(task, (7,))


def test_scheduler_that_could_not_keep_its_promise_refuses_to_run() -> None:
    scheduler = Service(app, scheduler_cls=LockedPersistentScheduler).get_scheduler(
        lazy=True
    )  # for the banner
    with pytest.raises(ImproperlyConfigured, match="not available in this release"):
        scheduler.setup_schedule()
