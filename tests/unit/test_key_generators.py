"""Generators of unique keys that a project writes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.keys import unique_name
from tests.project import tasks

if TYPE_CHECKING:
    from tests.unit.conftest import Declare


def take(x: Any, y: Any = 3, *, z: Any = None) -> None: ...


def generate(task: Any, prefix: str, task_args: Any, task_kwargs: Any) -> str:
    return "|".join([prefix, task.name, str(list(task_args)), *(f"{k}={v}" for k, v in task_kwargs.items())])


class Callables:
    def __call__(self, task: Any, prefix: str, task_args: Any, task_kwargs: Any) -> str:
        return generate(task, prefix, task_args, task_kwargs)


class WithMethod(tasks.app.Task):  # type: ignore[misc,name-defined]
    abstract = True

    def unique_key_generator(self, prefix: str, task_args: Any, task_kwargs: Any) -> str:
        return generate(self, prefix, task_args, task_kwargs)


class WithStatic(tasks.app.Task):  # type: ignore[misc,name-defined]
    abstract = True
    unique_key_generator = staticmethod(generate)


class WithFunction(tasks.app.Task):  # type: ignore[misc,name-defined]
    abstract = True
    unique_key_generator = generate


GENERATORS: dict[str, dict[str, Any]] = {
    "function": {"unique_key_generator": generate},
    "lambda": {
        "unique_key_generator": lambda *given: generate(*given),  # noqa: PLW0108 - the point
    },
    "staticmethod": {"unique_key_generator": staticmethod(generate)},
    "object": {"unique_key_generator": Callables()},
    "method of a base class": {"base": WithMethod},
    "static method of a base class": {"base": WithStatic},
    "function on a base class": {"base": WithFunction},
}


@pytest.mark.parametrize("options", GENERATORS.values(), ids=GENERATORS.keys())
def test_generator_gets_task_prefix_and_arguments(declare: Declare, options: dict[str, Any]) -> None:
    task = declare(take, unique=True, **options)
    assert unique_name(task, "p", (1,), {"y": 2}) == "p|declared.take|[1]|y=2"


@pytest.mark.parametrize("returned", ["", None, 5, b"bytes", ["a"]])
def test_generator_must_return_a_string(declare: Declare, returned: Any) -> None:
    task = declare(take, unique=True, unique_key_generator=lambda *_: returned)
    with pytest.raises(TaskConfigurationError, match=r"declared\.take.*unique_key_generator returned"):
        task.delay(1)


@pytest.mark.parametrize("generator", ["path.to.it", 5, None])
def test_generator_that_is_no_function_is_refused_at_the_declaration(
    declare: Declare, generator: Any
) -> None:
    with pytest.raises(TaskConfigurationError, match="unique_key_generator"):
        declare(take, unique=True, unique_key_generator=generator)


def test_error_of_a_generator_goes_to_the_caller(declare: Declare) -> None:
    def broken(*_: Any) -> str:
        raise LookupError("mine")

    task = declare(take, unique=True, unique_key_generator=broken)
    with pytest.raises(LookupError, match="mine"):
        task.delay(1)
