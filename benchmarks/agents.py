"""The conductor's side of an agent: start it, tell it what to run, and know why it does not answer."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.venvs import HOME, ROOT, python_of
from tests.processes import tied_to_us

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmarks.peers.base import Peer, Servers

#: Seconds until an agent must have answered.
PATIENCE = 120.0


class AgentError(Exception):
    """The agent did not run, or not do what it was told; the message says why."""


def command_of(peer: Peer) -> list[str]:
    """Return how its agent is started; makes its venv. Raises ``NotInstalledError``."""
    return [str(python_of(peer)), str(Path(__file__).with_name("agent.py")), peer.name]


def environment_of(peer: Peer, servers: Servers) -> dict[str, str]:
    """Return what its agent is told, and of our own environment only what a program needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    package = {"PYTHONPATH": str(ROOT)} if peer.ours else {}
    return {**kept, **package, "BENCH_SERVERS": json.dumps(dataclasses.asdict(servers))}


class Agent:
    """A process that runs one peer. Raises ``NotInstalledError`` where its venv can't be made."""

    def __init__(self, peer: Peer, servers: Servers) -> None:
        self.peer = peer
        log = HOME / "logs" / f"{peer.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                tied_to_us(command_of(peer)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=HOME,
                env=environment_of(peer, servers),
            )
        self._unread = b""
        self.measures: list[str] = []
        self.versions: dict[str, str] = {}
        self.python = ""
        #: Nanoseconds that its process was busy with what it did last.
        self.cpu = 0

    def ready(self) -> Self:
        """Wait until it has told what it can do. Raises :class:`AgentError` where it can't run."""
        hello = self._read(PATIENCE)
        self.measures, self.versions, self.python = hello["ok"], hello["versions"], hello["python"]
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, measure: str, calls: int = 1, patience: float = PATIENCE) -> Any:
        """Let it make so many calls, and return what it measured."""
        self.ask(measure, calls)
        return self.answer(patience)

    def ask(self, measure: str, calls: int = 1, *, profile: bool = False) -> None:
        """Tell it what to run."""
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        line = json.dumps({"measure": measure, "calls": calls, "profile": profile}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError as exc:
            msg = "it has ended"
            raise AgentError(msg) from exc

    def answer(self, patience: float = PATIENCE) -> Any:
        """Return the next thing it says. One that says nothing in time is killed: it would answer something else later."""
        said = self._read(patience)
        self.cpu = said["cpu"]
        return said["ok"]

    def _read(self, patience: float) -> dict[str, Any]:
        out = self._process.stdout
        assert out is not None  # noqa: S101 - for mypy
        while b"\n" not in self._unread:
            ready, _, _ = select.select([out], [], [], patience)
            if not ready:
                self.kill()
                msg = f"no answer within {patience:g} s"
                raise AgentError(msg)
            some = os.read(out.fileno(), 1 << 20)
            if not some:
                msg = f"it ended with {self._process.wait(10)}"
                raise AgentError(msg)
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise AgentError(said["error"])
        return said

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        """End it in order: it reads no more lines."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
