"""`celeryautoreload` restarts a real worker when the code changes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import ROOT, Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live import Live

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Django's reloader says at level DEBUG which file it has seen; a change before that is none.
SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django_celery_extensions", "proj"]
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "loggers": {"django.utils.autoreload": {"handlers": ["log"], "level": "DEBUG", "propagate": False}},
}
"""
CELERY = """
import os
from django_celery_extensions.celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
TASKS = "from proj.celery import app\n\n\n@app.task(name='proj.answer')\ndef answer():\n    return {answer}\n"


class Reloaded:
    """A project in a folder of its own, and `celeryautoreload` on it."""

    def __init__(self, folder: Path, live: Live) -> None:
        self.live = live
        self.package = folder / "proj"
        self.package.mkdir()
        (self.package / "__init__.py").write_text("from proj.celery import app\n")
        (self.package / "settings.py").write_text(SETTINGS)
        (self.package / "celery.py").write_text(CELERY)
        self.answers("1")
        self.command = [sys.executable, "-m", "django_celery_extensions.bin.celeryautoreload", "-A", "proj"]
        self.env = {
            **os.environ,
            **live.env,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "proj.settings",
        }
        self.folder = folder
        self.process: Process | None = None

    def answers(self, answer: str) -> None:
        path = self.package / "tasks.py"
        path.write_text(TASKS.format(answer=answer))
        later = path.stat().st_mtime + 2
        os.utime(path, (later, later))

    def start(self, *arguments: str) -> Process:
        self.process = Process([*self.command, *arguments], log=self.folder / "log", env=self.env)
        return self.process

    def changes(self, answer: str, *, starts: int) -> None:
        """Change the code once the reloader has seen it in each of so many starts."""
        assert self.process is not None
        log = self.process.log
        wait_until(lambda: log().count("proj/tasks.py first seen") == starts, timeout=30, what=log)
        self.answers(answer)

    def answer(self) -> int:
        return int(self.live.app.send_task("proj.answer").get(timeout=30))


@pytest.fixture
def reloaded(tmp_path: Path, live_app: Live) -> Iterator[Reloaded]:
    project = Reloaded(tmp_path, live_app)
    yield project
    if project.process is not None:
        project.process.kill()


def celery_processes(process: Process) -> list[int]:
    """Return the processes of its group that run celery."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                group = os.getpgid(int(entry.name))
            except OSError:
                continue
            if group == os.getpgid(process.pid) and b"celery\0-A" in command:
                found.append(int(entry.name))
    return found


def test_change_restarts_the_worker_and_an_error_waits_for_the_next(reloaded: Reloaded) -> None:
    process = reloaded.start("worker", "-P", "solo", "-l", "INFO", "--without-mingle", "--without-gossip")
    assert reloaded.answer() == 1
    reloaded.changes("2", starts=1)
    wait_until(lambda: process.log().count(" ready.") == 2, timeout=30, what=process.log)
    assert reloaded.answer() == 2
    reloaded.changes("2 +", starts=2)
    wait_until(lambda: "SyntaxError" in process.log(), timeout=30, what=process.log)
    reloaded.changes("3", starts=3)
    wait_until(lambda: process.log().count(" ready.") == 3, timeout=30, what=process.log)
    assert reloaded.answer() == 3
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: not process.alive, timeout=20, what=process.log)
    assert "celeryautoreload: watching the code" in process.log()
    assert "Exception ignored" not in process.log()


def test_end_leaves_nobody_behind(reloaded: Reloaded) -> None:
    process = reloaded.start("worker", "-c", "1", "-l", "INFO", "--without-mingle", "--without-gossip")
    wait_until(lambda: " ready." in process.log(), timeout=30, what=process.log)
    assert celery_processes(process)
    group = os.getpgid(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: not process.alive, timeout=20, what=process.log)
    with pytest.raises(ProcessLookupError):
        wait_until(lambda: os.killpg(group, 0), timeout=3)


def test_arguments_that_celery_does_not_know_end_it(reloaded: Reloaded) -> None:
    process = reloaded.start("worker", "--no-such-option")
    wait_until(lambda: not process.alive, timeout=30, what=process.log)
    assert process.returncode == 2
    assert "No such option" in process.log()
