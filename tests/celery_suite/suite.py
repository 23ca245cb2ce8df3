"""Celery's sdist and a venv for its tests, in a cache directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = "django_celery_extensions.task:DjangoTask"

#: What t/unit/tasks and its neighbours import. The rest of requirements/test*.txt is for backends not tested here.
REQUIREMENTS = (
    "celery[redis,pydantic,msgpack,yaml]=={version}",
    "django>=5.2",
    "django-redis>=5.4",
    "pytest>=8",
    "pytest-celery>=1.1",
    "pytest-click",
    "pytest-order",
    "pytest-rerunfailures",
    "pytest-subtests",
    "pytest-timeout",
    "freezegun",
    "boto3",
    "moto",
    "tblib",
)


@dataclass
class Outcome:
    """What a run of the suite came to, by the names of its tests."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    #: The last lines of a run that told nothing.
    output: str = ""

    def __str__(self) -> str:
        return (
            f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped or expected"
        )


class Suite:
    """The suite of one version of Celery."""

    def __init__(self, version: str, cache: Path) -> None:
        self.version = version
        self.cache = cache
        self.venv = cache / f"venv-{version}"
        self.source = cache / f"celery-{version}"
        self.python = self.venv / "bin" / "python"

    def prepare(self) -> None:
        """Download and install what is missing."""
        self.cache.mkdir(parents=True, exist_ok=True)
        done = self.venv / ".installed"
        if not done.exists() or done.read_text() != repr(REQUIREMENTS):
            venv.create(self.venv, clear=True, with_pip=True)
            self._pip("install", *(requirement.format(version=self.version) for requirement in REQUIREMENTS))
            done.write_text(repr(REQUIREMENTS))
        if not (self.source / "t").exists():
            self._pip(
                "download",
                "--no-deps",
                "--no-binary",
                "celery",
                "-d",
                str(self.cache),
                f"celery=={self.version}",
            )
            with tarfile.open(self.cache / f"celery-{self.version}.tar.gz") as archive:
                archive.extractall(self.cache, filter="data")
        # The tests import the celery that is installed, not the one beside them.
        if (self.source / "celery").exists():
            (self.source / "celery").rename(self.source / "celery_source")

    def run(
        self, paths: Sequence[str], *, ours: bool, env: Mapping[str, str] | None = None, timeout: float
    ) -> Outcome:
        """Run these tests, with DjangoTask where ``ours``, else with Celery's own class."""
        report = self.cache / f"report-{self.version}-{'ours' if ours else 'plain'}.xml"
        report.unlink(missing_ok=True)
        command = [str(self.python), "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", "-q"]
        command += ["--tb=no", f"--junit-xml={report}", *paths]
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("CELERY_", "DJANGO_"))
            },
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"DCE_TASK": OURS} if ours else {}),
            **(env or {}),
        }
        done = subprocess.run(
            command,
            cwd=self.source,
            env=environment,
            timeout=timeout,
            check=False,
            capture_output=True,
            text=True,
        )
        if not report.exists():
            return Outcome(output=(done.stdout + done.stderr)[-3000:])
        return read_report(report)

    def _pip(self, *arguments: str) -> None:
        command = [
            str(self.python),
            "-m",
            "pip",
            "--quiet",
            "--quiet",
            "--disable-pip-version-check",
            *arguments,
        ]
        subprocess.run(command, check=True, timeout=900)


def read_report(path: Path) -> Outcome:
    """Read pytest's JUnit file."""
    outcome = Outcome()
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - written by pytest a moment ago
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.add(name)
        elif case.find("skipped") is not None:
            outcome.skipped.add(name)
        else:
            outcome.passed.add(name)
    # A test that was run again, or has subtests, stands there several times: it has passed if it never failed.
    outcome.passed -= outcome.failed
    outcome.skipped -= outcome.failed | outcome.passed
    return outcome


def installed_version() -> str:
    """The version of the Celery that is installed here."""
    code = "import celery; print(celery.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()
