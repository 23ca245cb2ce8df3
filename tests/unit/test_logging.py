"""The log has a line for each decision, with fields, and docs/logging.md names each logger with its levels."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import django_celery_extensions
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Declare

PACKAGE = Path(django_celery_extensions.__file__).parent
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
#: Modules whose lines are about no single task, claim or lock, or (commands) are somebody else's.
OTHERS = {"beat", "timetable", "agenda", "chunks", "commands", "stores.zookeeper_client"}


def lines() -> Iterator[tuple[str, str, ast.Call]]:
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
                and node.func.attr in {*LEVELS, "log"}
            ):
                yield module, node.func.attr, node


def test_lines_about_a_task_carry_fields() -> None:
    bare = {
        f"{module}:{node.lineno}"
        for module, method, node in lines()
        if module not in OTHERS
        and method not in ("debug", "exception")
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    }
    # Of all leases together.
    assert {line for line in bare if not line.startswith("heartbeat:")} == set()
    assert len(bare) == 1


def test_page_names_each_logger_with_its_levels() -> None:
    told: set[tuple[str, str]] = set()
    logger = ""
    for name, level in re.findall(
        r"^\| (?:`([\w.]+)`)? ?\| (INFO|WARNING|ERROR) \|",
        (ROOT / "docs/logging.md").read_text(),
        re.MULTILINE,
    ):
        logger = name or logger
        told.add((logger, level))
    made = {(module, LEVELS[method]) for module, method, _ in lines() if method not in ("debug", "log")}
    made |= {("leadership", "INFO"), ("leadership", "WARNING")}  # by logger.log
    assert told == made


@pytest.mark.django_db
def test_duplicate_and_ignored_call(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    def body(number: int) -> None:
        if number:
            again.append(task.delay(number - 1 if number > 1 else number))

    again: list[Any] = []
    task = declare(body, unique=True, ignore_task_after_success=True, ignore_task_timedelta=60)
    caplog.set_level(logging.INFO, "django_celery_extensions")
    first = task.delay(1)  # its body calls it once more
    second = task.delay(1)
    joined, ignored = [one for one in caplog.records if one.name == "django_celery_extensions.dispatch"]
    assert (joined.levelname, joined.getMessage()) == (
        "INFO",
        f"a call of {task.name} is a duplicate of {first.id}",
    )
    assert vars(joined)["task_id"] == vars(ignored)["task_id"] == first.id
    assert vars(joined)["invocation_id"] == again[0].invocation_id
    assert vars(ignored)["invocation_id"] == second.invocation_id
    assert vars(joined)["key"] == vars(ignored)["key"]
    assert f"is ignored because of {first.id}" in ignored.getMessage()
