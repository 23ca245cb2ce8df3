"""Sets of results, in which calls may be joined or ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.result import ResultSet

from tests.project import tasks
from tests.unit.conftest import end

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Queue

pytestmark = pytest.mark.django_db(transaction=True)


ONE_PLACE = pytest.mark.xfail(strict=True, reason="Celery's join_native fills one place per task id")


@pytest.mark.parametrize(
    "join",
    [
        ResultSet.join,
        pytest.param(ResultSet.join_native, marks=ONE_PLACE),
        pytest.param(ResultSet.get, marks=ONE_PLACE),
    ],
)
def test_set_of_results_waits_for_joined_ones(queue: Queue, join: Callable[..., Any]) -> None:
    results = tasks.silent.delay_many([("a",), ("b",), ("a",)])
    end(results[0], "a")
    end(results[1], "b")
    gathered: ResultSet[Any] = ResultSet(results, app=tasks.app)
    assert gathered.ready()
    assert join(gathered, timeout=3) == ["a", "b", "a"]


@pytest.mark.parametrize("join", [ResultSet.join, ResultSet.join_native, ResultSet.get])
def test_set_of_results_has_nothing_of_ignored_ones(
    queue: Queue, ignored: Any, join: Callable[..., Any]
) -> None:
    first = tasks.silent.delay("a")
    end(first, "a")
    gathered: ResultSet[Any] = ResultSet([first, ignored.delay()], app=tasks.app)
    assert gathered.ready()
    assert join(gathered, timeout=1) == ["a", None]
