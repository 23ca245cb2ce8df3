"""Management commands as tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db import transaction

from django_celery_extensions.commands import CommandTask, make_command_tasks
from django_celery_extensions.exceptions import CommandTaskError, TaskConfigurationError
from django_celery_extensions.task import DjangoTask, get_django_command_task
from tests.project.celery import app
from tests.project.management.commands import demand, say

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Heard, Queue

NAME = "command.tests.project.say"
Make = Callable[..., Any]


def test_name_and_kind(make: Make) -> None:
    task = make(say={"unique": True})
    assert isinstance(task, DjangoTask)
    assert task.name == NAME
    assert app.tasks[NAME] is task
    assert task.unique
    assert "say" in task.__doc__


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("clearsessions", "command.django.contrib.sessions.clearsessions"),
        ("check", "command.django.core.check"),
        ("changepassword", "command.django.contrib.auth.changepassword"),
    ],
)
def test_commands_of_django_and_of_apps(make: Make, name: str, full: str) -> None:
    assert make(**{name: {}}).name == full


def test_options_may_be_none(make: Make) -> None:
    assert make(say=None).delay().state == "SUCCESS"


@pytest.mark.parametrize(("name", "likely"), [("sya", "say"), ("clearsession", "clearsessions")])
def test_unknown_command_is_a_clear_error_with_the_likely_one(make: Make, name: str, likely: str) -> None:
    with pytest.raises(CommandTaskError, match=f"'{name}'.*did you mean '{likely}'"):
        make(**{name: {}})


def test_command_that_no_task_is_made_of(make: Make) -> None:
    make(say={})
    with pytest.raises(CommandTaskError, match=r"'demand'.*AUTO_GENERATE_TASKS_DJANGO_COMMANDS.*'say'"):
        get_django_command_task("demand")


def test_defaults_of_all_tasks_give_way_to_the_commands_own(make: Make) -> None:
    task = make({"unique": True, "time_limit": 5}, say={"time_limit": 6})
    assert (task.unique, task.time_limit) == (True, 6)


def test_misspelt_option_of_a_task_names_the_likely_one(make: Make) -> None:
    with pytest.raises(TaskConfigurationError, match="uniqe.*did you mean 'unique'"):
        make(say={"uniqe": True})


# arguments


def test_arguments_and_options_reach_the_command(make: Make) -> None:
    task = make(say={})
    task.delay(["a", "b"], loud=True, repeat_count=2)
    task.delay(command_args=("c", 5), paint="red", verbosity=2)
    first, second = say.runs
    assert (first["words"], first["loud"], first["repeat_count"]) == (["a", "b"], True, 2)
    assert (second["words"], second["paint"], second["verbosity"]) == (["c", "5"], "red", 2)


def test_option_may_be_called_as_on_the_command_line(make: Make) -> None:
    make(say={}).delay(colour="red")
    assert say.runs[0]["paint"] == "red"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lowd": True}, "no option 'lowd'; did you mean 'loud'"),
        ({"repeat_cuont": 2}, "did you mean 'repeat_count'"),
        ({"nothing_like_it_at_all": 1}, "it has .*loud"),
    ],
)
def test_unknown_option_is_refused_at_the_call(
    make: Make, queue: Queue, heard: Heard, wrong: dict[str, Any], says: str
) -> None:
    task = make(say={"unique": True})
    for call in (task.delay, task.delay_on_commit):
        with transaction.atomic(), pytest.raises(CommandTaskError, match=f"say.*{says}"):
            call(**wrong)
    assert (heard.names, queue.ids()) == ([], [])


def test_wrong_positional_arguments_are_refused_at_the_call(make: Make) -> None:
    task = make(clearsessions={})
    with pytest.raises(CommandTaskError, match="clearsessions can't be called like this: .*surplus"):
        task.delay(["surplus"])


def test_option_like_positional_argument_is_an_option(make: Make) -> None:
    make(say={}).delay(["--loud", "a"])
    assert (say.runs[0]["loud"], say.runs[0]["words"]) == (True, ["a"])
    with pytest.raises(CommandTaskError):
        make(say={}).delay(["--lowd"])


def test_needed_option_is_asked_for_at_the_call(make: Make) -> None:
    task = make(demand={})
    with pytest.raises(CommandTaskError, match="arguments are required: --until"):
        task.delay(["/tmp"], fast=True)  # noqa: S108 - only a word


def test_needed_options_by_name(make: Make) -> None:
    task = make(demand={})
    assert task.delay(["here"], until=5, fast=True).state == "SUCCESS"
    assert (demand.runs[0]["path"], demand.runs[0]["until"], demand.runs[0]["fast"]) == ("here", 5, True)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["here"], {"until": "soon", "fast": True}),
        (["here"], {"until": 5}),
        (["here"], {"until": 5, "fast": True, "slow": True}),
        ([], {"until": 5, "fast": True}),
    ],
)
def test_what_the_parser_refuses_is_refused_at_the_call(
    make: Make, args: list[str], options: dict[str, Any]
) -> None:
    with pytest.raises(CommandTaskError, match="demand"):
        make(demand={}).delay(args, **options)


def test_positional_argument_by_name_runs_or_is_refused_at_the_call(make: Make) -> None:
    task = make(demand={})
    try:
        result = task.delay(path="here", until=5, fast=True)
    except CommandTaskError:
        return
    assert result.get() is None
    assert demand.runs[0]["path"] == "here"


# kwargs for every run


class Tenant(CommandTask):
    abstract = True

    def get_command_kwargs(self) -> dict[str, Any]:
        return {"loud": True, "repeat_count": 7}


class Until(CommandTask):
    abstract = True

    def get_command_kwargs(self) -> dict[str, Any]:
        return {"until": 5}


class Plain(DjangoTask):
    abstract = True

    def get_command_kwargs(self) -> dict[str, Any]:
        return {"loud": True}


def test_task_may_give_options_to_every_run(make: Make) -> None:
    make(say={"base": Tenant}).delay(repeat_count=8)
    assert (say.runs[0]["loud"], say.runs[0]["repeat_count"]) == (True, 8)


def test_any_django_task_may_be_the_base(make: Make) -> None:
    make(say={"base": Plain}).delay()
    assert say.runs[0]["loud"]


def test_needed_option_may_come_from_the_task(make: Make) -> None:
    assert make(demand={"base": Until}).delay(["here"], fast=True).state == "SUCCESS"


@pytest.mark.parametrize("given", ["ad", 5, {"x": 1}])
def test_arguments_that_are_no_sequence_are_refused(make: Make, given: Any) -> None:
    """Naive: a string is taken apart."""
    task = make(say={})
    with pytest.raises(CommandTaskError, match="command_args is "):
        task.delay(command_args=given)


@pytest.mark.parametrize("wanted", [["clearsessions"], "clearsessions", {"clearsessions": 5}])
def test_setting_of_the_wrong_type_is_named(settings: SettingsWrapper, wanted: Any) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS = wanted
    with pytest.raises(
        TaskConfigurationError, match="AUTO_GENERATE_TASKS_DJANGO_COMMANDS.* is .*; give a dict"
    ):
        make_command_tasks()


@pytest.mark.parametrize("given", ["no.such.Error", ["no.such.Error"], ["nothing"]])
def test_exceptions_that_cannot_be_imported_are_named(make: Make, given: Any) -> None:
    with pytest.raises(TaskConfigurationError, match="autoretry_for of the command say is "):
        make(say={"autoretry_for": given})


@pytest.mark.parametrize("name", ["no.such.app", 5])
def test_app_that_cannot_be_imported_is_named(settings: SettingsWrapper, name: Any) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CELERY_SETTINGS = name
    with pytest.raises(TaskConfigurationError, match="CELERY_SETTINGS is .*, which can't be imported"):
        apps.get_app_config("django_celery_extensions").ready()
