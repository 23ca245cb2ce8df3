"""Runs child processes that never outlive their parent, and keeps what they print."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
TETHER = Path(__file__).with_name("tether.py")
LINES_KEPT = 5000
STOP_SECONDS = 8.0
POLL_SECONDS = 0.05
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


class ProcessError(Exception):
    """A child ended, or was not ready in time."""


class Child:
    """A running process and what it has printed."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], echo: bool) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._echo = echo
        # A group of its own: Ctrl-C reaches only the parent, which then stops its children in order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        output: IO[str] | None = self._process.stdout
        for line in output or ():
            self.lines.append(line.rstrip())
            if self._echo:
                print(f"{self.name:>6} | {line.rstrip()}", flush=True)

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while the process runs."""
        return self._process.poll()

    def tail(self, count: int = 40) -> str:
        """Give the last lines that it printed, under its name; nothing where they were shown as they came."""
        if self._echo:
            return ""
        return "\n".join([f"--- end of what {self.name} printed", *list(self.lines)[-count:]])

    def finish(self, seconds: float) -> int:
        """Wait for the end and for the last line of output, and give the exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} did not end within {seconds:.0f} s") from None
        self._reader.join(1)
        return code

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end; after ``seconds`` kill it and everything in its group."""
        if self.exit_code is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of the group has ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)


class Processes:
    """Children that are stopped, last started first, when the ``with`` block is left, by whatever way."""

    def __init__(self, env: Mapping[str, str] | None = None, echo: bool = False) -> None:
        self.env = dict(os.environ if env is None else env, PYTHONUNBUFFERED="1")
        self._echo = echo
        self._children: list[Child] = []
        self._former: dict[int, object] = {}

    def __enter__(self) -> "Processes":  # noqa: PYI034 - Self is newer than Python 3.10
        for number in ENDING_SIGNALS:
            self._former[number] = signal.signal(number, self._end)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # stopping is bounded: a second Ctrl-C would leave orphans
        for child in reversed(self._children):
            child.stop()
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @staticmethod
    def _end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def start(self, name: str, *command: str, quiet: bool = False) -> Child:
        """Start a command; ``quiet``: keep what it prints for the case that it fails."""
        child = Child(name, command, self.env, self._echo and not quiet)
        self._children.append(child)
        return child

    def python(self, name: str, *arguments: str, quiet: bool = False) -> Child:
        """Start this Python with arguments."""
        return self.start(name, sys.executable, *arguments, quiet=quiet)

    def forget(self, child: Child) -> None:
        """Stop a child that is no longer needed, or has ended as it should."""
        child.stop()
        self._children.remove(child)

    def dead(self) -> Child | None:
        """Give a child that has ended, if there is one."""
        return next((child for child in self._children if child.exit_code is not None), None)

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition holds. Raises :class:`ProcessError` after ``seconds``, or when a child ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                tails = "\n".join(child.tail(20) for child in self._children)
                raise ProcessError(f"{what}: not within {seconds:.0f} s\n{tails}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise :class:`ProcessError` if a child has ended."""
        child = self.dead()
        if child is not None:
            code = child.finish(1)
            raise ProcessError(f"{child.name} ended with code {code}\n{child.tail()}")
