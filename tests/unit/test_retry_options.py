"""`default_retry_delays` and `max_retries`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.conftest import Declare


def body() -> None: ...


def subclass(base: type[DjangoTask] = DjangoTask, **attributes: Any) -> type[DjangoTask]:
    return type("Base", (base,), {"abstract": True, **attributes})


def test_number_of_delays_is_the_number_of_retries(declare: Declare) -> None:
    assert declare(body, default_retry_delays=(60, 120, 180, 240, 300)).max_retries == 5
    assert declare(body, name="declared.one", default_retry_delays=[timedelta(seconds=1)]).max_retries == 1


def test_without_delays_celerys_number_stays(declare: Declare) -> None:
    assert declare(body).max_retries == 3


@pytest.mark.parametrize("given", [0, 1, 7, None])
def test_given_number_wins(declare: Declare, given: int | None) -> None:
    assert declare(body, default_retry_delays=(1, 2), max_retries=given).max_retries == given


def test_delays_of_a_base_class_count_for_its_tasks(declare: Declare) -> None:
    base = subclass(default_retry_delays=(1, 2, 3, 4))
    assert declare(body, base=base).max_retries == 4
    assert declare(body, name="declared.own", base=base, max_retries=1).max_retries == 1
    assert declare(body, name="declared.fewer", base=base, default_retry_delays=(1,)).max_retries == 1
    assert declare(body, name="declared.sub", base=subclass(base)).max_retries == 4


def test_number_of_a_base_class_stands_beside_its_delays(declare: Declare) -> None:
    base = subclass(default_retry_delays=(1, 2), max_retries=9)
    assert declare(body, base=base).max_retries == 9


@pytest.mark.parametrize(
    ("delays", "max_retries", "waits"),
    [
        ((1, 2, 4), None, [1, 2, 4]),
        ((timedelta(minutes=1), 0.5), None, [60, 0.5]),
        ((1, 2), 4, [1, 2, 2, 2]),
        ((1, 2, 3), 1, [1]),
    ],
)
@pytest.mark.parametrize("unique", [True, False])
def test_each_retry_waits_for_its_own_delay(
    declare: Declare, delays: Sequence[Any], max_retries: int | None, waits: list[float], *, unique: bool
) -> None:
    told: list[float] = []
    runs: list[int] = []

    class Base(DjangoTask):
        abstract = True

        def retry(self, *args: Any, **kwargs: Any) -> Any:
            try:
                super().retry(*args, **kwargs)
            except Exception as exc:
                told.append(getattr(exc, "when", None))  # type: ignore[arg-type]
                raise

    def fail(self: Any) -> None:
        runs.append(self.request.retries)
        raise ValueError("again")

    options = {} if max_retries is None else {"max_retries": max_retries}
    task = declare(
        fail,
        bind=True,
        base=Base,
        unique=unique,
        autoretry_for=(ValueError,),
        default_retry_delays=delays,
        **options,
    )
    result = task.delay()
    assert isinstance(result.result, ValueError)
    assert result.state == "FAILURE"
    assert runs == list(range(len(waits) + 1))
    assert [told_ for told_ in told if told_ is not None] == waits


@pytest.mark.parametrize("given", [{"countdown": 7}, {"countdown": 0}])
def test_countdown_of_a_retry_wins_over_the_delays(declare: Declare, given: dict[str, Any]) -> None:
    waits: list[Any] = []

    def once(self: Any) -> str:
        if self.request.retries:
            return "done"
        try:
            self.retry(**given)
        except Exception as exc:
            waits.append(exc.when)  # type: ignore[attr-defined]
            raise
        return "not reached"

    task = declare(once, bind=True, default_retry_delays=(60, 60))
    assert task.delay().get() == "done"
    assert waits == [given["countdown"]]
