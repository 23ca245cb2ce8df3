"""System checks of beat: its lease, its entries, and the tasks they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import Error, Warning  # noqa: A004 - Django's name

from tests.project.celery import app
from tests.unit.test_checks import body, found

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Declare


def test_lease_of_beat_that_ends_between_two_looks(settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_SLEEP = 15
    (error,) = found("E011")
    assert isinstance(error, Error)
    assert "LOCK_SLEEP" in error.msg


@pytest.mark.parametrize(
    "entry",
    [
        {"schedule": 5},
        {"task": "declared.body", "schedule": 0},
        {"task": "declared.body", "schedule": 5, "catch_up": "all"},
        {"task": "declared.body", "shedule": 5},
    ],
)
def test_entry_of_beat_that_can_not_be_fired(entry: dict[str, Any], declare: Declare) -> None:
    declare(body)
    app.conf.beat_schedule = {"wrong": entry}
    (error,) = found("E012", "W013")
    assert isinstance(error, Error)
    assert "beat_schedule['wrong']" in error.msg


def test_entry_of_beat_whose_task_nobody_knows(declare: Declare) -> None:
    declare(body)
    app.conf.beat_schedule = {
        "right": {"task": "declared.body", "schedule": 5},
        "misspelt": {"task": "declared.bodi", "schedule": 5},
    }
    (warning,) = found("E012", "W013")
    assert isinstance(warning, Warning)
    assert "'declared.bodi'" in warning.msg
    assert warning.hint == "Did you mean 'declared.body'?"
