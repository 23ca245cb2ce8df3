"""Real Celery workers for the tests, each a process group of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.processes import Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Pool = Literal["prefork", "threads", "solo", "gevent", "eventlet"]

START_TIMEOUT = 40.0


class Worker:
    """`python -m celery -A tests.project worker`, started at once; `ready` waits until it takes messages."""

    def __init__(
        self,
        *,
        pool: Pool = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = (),
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        app: str = "tests.project",
        loglevel: str = "INFO",
    ) -> None:
        self.pool = pool
        self.directory = Path(tempfile.mkdtemp(prefix="dce-worker-"))
        self.hostname = f"w{uuid.uuid4().hex[:8]}@localhost"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", self.hostname, "-l", loglevel]
        command += ["-P", pool, "-c", str(concurrency)]
        # Workers of the tests don't look for each other; that saves a second at the start.
        command += ["--without-mingle", "--without-gossip"]
        if queues:
            command += ["-Q", ",".join(queues)]
        self._process = Process(
            [*command, *arguments],
            log=self.directory / "log",
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
        )

    def ready(self, timeout: float = START_TIMEOUT) -> Worker:
        """Wait until the worker takes messages. A worker that ends instead fails with its log."""
        wait_until(
            lambda: f"{self.hostname} ready." in self.log() or not self.alive,
            timeout=timeout,
            what=lambda: f"{self.hostname} is ready; its log:\n{self.log()}",
            interval=0.05,
        )
        if not self.alive:
            msg = (
                f"{self.hostname} ended with {self._process.returncode} at its start; its log:\n{self.log()}"
            )
            raise AssertionError(msg)
        return self

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def log(self) -> str:
        return self._process.log()

    def wait_for_log(self, text: str, timeout: float = 15) -> None:
        """Wait until *text* stands in the log."""
        wait_until(
            lambda: text in self.log(),
            timeout=timeout,
            what=lambda: f"{text!r} in the log of {self.hostname}:\n{self.log()}",
            interval=0.02,
        )

    def signal(self, number: int) -> None:
        """Send a signal to the main process and its children."""
        self._process.signal(number)

    def freeze(self) -> None:
        """Stop the worker and its children in their tracks."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def kill(self) -> None:
        """SIGKILL the worker and its children."""
        self._process.kill()

    def stop(self, timeout: float = 20) -> None:
        """Warm shutdown: running tasks may finish within *timeout* seconds; then whatever is left is killed."""
        self._process.stop(timeout)

    def close(self) -> None:
        """End the worker and remove its log: at once, or in order where its coverage is measured.

        A gevent worker takes five seconds to end in order, which is Celery's doing and not waited for.
        """
        if "COVERAGE_PROCESS_CONFIG" in os.environ and self.pool != "gevent":
            self._process.stop(timeout=5)
        else:
            self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
