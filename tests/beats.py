"""Real `celery beat` processes for the tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEDULER = "django_celery_extensions.beat.LockedPersistentScheduler"


class Beat(Process):
    """`python -m celery -A tests.project beat`, started at once, in a process group of its own."""

    def __init__(
        self,
        *,
        scheduler: str | None = SCHEDULER,
        file: str | None = None,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        app: str = "tests.project",
        python: str | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dce-beat-"))
        command = [
            sys.executable if python is None else python,
            "-m",
            "celery",
            "-A",
            app,
            "beat",
            "-l",
            "INFO",
            "--pidfile=",
        ]
        command += ["-s", file if file is not None else str(self.directory / "schedule")]
        if scheduler is not None:
            command += ["-S", scheduler]
        super().__init__(
            [*command, *arguments],
            log=self.directory / "log",
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
        )

    def close(self) -> None:
        """End it and remove its files: at once, or in order where its coverage is measured."""
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            self.stop(timeout=5)
        else:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
