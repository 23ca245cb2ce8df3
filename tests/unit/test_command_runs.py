"""Management commands as tasks: what they write, how they end, how they are called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from celery.beat import Scheduler
from celery.schedules import crontab
from django.core.management.base import CommandError
from django.db import transaction

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.task import get_django_command_task
from tests.project.celery import app
from tests.project.management.commands import say

if TYPE_CHECKING:
    from tests.unit.conftest import Queue

NAME = "command.tests.project.say"
Make = Callable[..., Any]


def test_output_goes_to_the_logger_of_the_task(
    make: Make, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    with caplog.at_level(logging.INFO, logger=NAME):
        make(say={}).delay()
    lines = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == NAME]
    assert [line for level, line in lines if level == logging.INFO] == [
        "one line",
        "two lines",
        "no newlinereturned",
    ]
    assert [line for level, line in lines if level == logging.ERROR] == ["a warning"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("end", "error"), [("error", CommandError), ("value error", ValueError), ("exit 3", CommandError)]
)
def test_error_is_a_failure_of_the_task(make: Make, caplog: Any, end: str, error: type[Exception]) -> None:
    task = make(say={"unique": True})
    with caplog.at_level(logging.INFO, logger=NAME):
        result = task.delay(end=end)
    assert (result.state, type(result.result)) == ("FAILURE", error)
    assert not task.is_processing((), {"end": end})
    assert "no newline" in [record.getMessage() for record in caplog.records], "what was written is not lost"


def test_exit_says_its_code(make: Make) -> None:
    task = make(say={})
    with pytest.raises(CommandError, match="say exited with 3"):
        task.delay(end="exit 3").get()
    with pytest.raises(CommandError, match="text"):
        task.delay(end="exit text").get()


@pytest.mark.parametrize("end", ["exit", "exit 0"])
def test_exit_with_nothing_is_a_success(make: Make, end: str) -> None:
    assert make(say={}).delay(end=end).state == "SUCCESS"


def test_errors_by_dotted_path_are_retried(make: Make) -> None:
    paths = ("django.core.management.base.CommandError",)
    task = make(say={"autoretry_for": paths, "default_retry_delays": (1, 1)})
    assert task.delay(end="error").state == "FAILURE"
    assert len(say.runs) == 3
    say.runs.clear()
    assert task.delay(end="value error").state == "FAILURE"
    assert len(say.runs) == 1


def test_wrong_dotted_path_is_a_clear_error(make: Make) -> None:
    with pytest.raises((ImportError, TaskConfigurationError), match="nope"):
        make(say={"autoretry_for": ("nope.Error",)})


# as a task


def test_unique_by_its_arguments(make: Make, queue: Queue) -> None:
    task = make(say={"unique": True})
    first = task.delay(["a"], loud=True)
    assert task.delay(command_args=("a",), loud=True).id == first.id
    assert task.delay(["b"], loud=True).id != first.id
    assert task.delay(["a"]).id != first.id
    assert task.is_processing((["a"],), {"loud": True})


@pytest.mark.django_db(transaction=True)
def test_sent_on_commit_as_the_usage_page_does(make: Make, queue: Queue) -> None:
    make(clearsessions={"unique": True})
    with transaction.atomic():
        result = get_django_command_task("clearsessions").delay_on_commit()
        assert queue.ids() == []
    assert queue.ids() == [result.id]


def test_beat_sends_it_by_its_name(make: Make, queue: Queue) -> None:
    make(say={"unique": True})
    schedule = {"task": NAME, "schedule": crontab(hour=3), "args": [["a"]], "kwargs": {"loud": True}}
    scheduler = Scheduler(app, schedule={}, lazy=True)
    entry = scheduler.Entry(**schedule, app=app, name="nightly")
    result = scheduler.apply_async(entry, advance=False)
    (message,) = queue.messages()
    assert (message.task, message.args, message.kwargs) == (NAME, [["a"]], {"loud": True})
    assert message.task_id == result.id
    assert get_django_command_task("say").delay(["a"], loud=True).id == result.id
