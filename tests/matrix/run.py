"""Plays the scenario in cells, and the unit tests in environments."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.matrix.places import place
from tests.processes import ROOT, Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.matrix.cells import Cell
    from tests.matrix.environments import Environment
    from tests.matrix.places import Servers

#: Seconds that the scenario, and the unit tests, may take.
SCENARIO_TIMEOUT = 300
UNIT_TIMEOUT = 1800


@dataclass(kw_only=True)
class Result:
    """What a run of pytest came to."""

    passed: int = 0
    #: test -> reason.
    skipped: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0
    #: Why it could not run at all.
    gap: str | None = None
    #: The gap is one that CI has too: an interpreter is no server.
    excused: bool = False
    #: What pytest wrote, where something failed.
    output: str = ""

    @property
    def verdict(self) -> str:
        if self.gap is not None:
            return "not run"
        return "FAILED" if self.failed or not self.passed else "passed"

    def __str__(self) -> str:
        if self.gap is not None:
            return f"not run: {self.gap}"
        told = f"{self.verdict}: {self.passed} passed"
        if self.failed:
            told += f", {len(self.failed)} failed ({', '.join(self.failed[:5])})"
        if self.skipped:
            told += f", {len(self.skipped)} skipped"
        return f"{told}, {self.seconds:.1f} s"


def play(cell: Cell, number: int, servers: Servers, environment: Environment) -> Result:
    """Play the scenario in a cell."""
    folder = Path(tempfile.mkdtemp(prefix="dce-cell-"))
    try:
        options = ["--noconftest", "-p", "no:django", "-p", "no:xdist", "-p", "no:cov"]
        options += ["-c", os.devnull, "--rootdir", str(ROOT), "--timeout", "120"]
        return pytest(
            environment,
            [*options, "tests/matrix/scenario.py"],
            folder=folder,
            env={
                "DJANGO_SETTINGS_MODULE": "tests.matrix.settings",
                "MATRIX_CELL": json.dumps(place(cell, number, servers, folder)),
            },
            timeout=SCENARIO_TIMEOUT,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unit_tests(environment: Environment, jobs: int) -> Result:
    """Run tests/unit in an environment."""
    with tempfile.TemporaryDirectory(prefix="dce-unit-") as folder:
        options = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else []
        return pytest(
            environment, [*options, "tests/unit"], folder=Path(folder), env={}, timeout=UNIT_TIMEOUT
        )


def pytest(
    environment: Environment,
    arguments: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
) -> Result:
    report = folder / "report.xml"
    command = [str(environment.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb", "short"]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CELERY_", "DJANGO_", "TEST_", "PYTEST_"))
    }
    begun = time.monotonic()
    process = Process(
        [*command, f"--junit-xml={report}", *arguments], log=folder / "log", env={**kept, **env}
    )
    try:
        wait_until(lambda: not process.alive, timeout, interval=0.1)
    except AssertionError:
        pass  # there is no report then
    finally:
        process.kill()
    result = read_report(report) if report.exists() else Result(failed=["no report of pytest's"])
    result.seconds = time.monotonic() - begun
    if result.verdict == "FAILED":
        result.output = process.log()[-20000:]
    return result


def read_report(path: Path) -> Result:
    """Read pytest's JUnit file."""
    result = Result()
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - written by pytest a moment ago
        name = str(case.get("name"))
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(name)
        elif skipped is not None:
            result.skipped[name] = str(skipped.get("message"))
        else:
            result.passed += 1
    return result
