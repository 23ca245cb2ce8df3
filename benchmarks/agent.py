"""Runs one peer in its venv: `python benchmarks/agent.py PEER`. JSON lines in, JSON lines out; see :mod:`benchmarks`.
`python benchmarks/agent.py PEER worker` is a worker of that peer instead.

The folder of this file comes first on the path, so that `peers` is there and this repository's package is not.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import traceback
from importlib.metadata import distributions, version
from time import process_time_ns
from types import GeneratorType
from typing import IO, Any


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of what is installed of these."""
    return {package: version(package) for package in packages if any(distributions(name=package))}


def reason(exc: BaseException) -> str:
    """Say in one line what went wrong."""
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]


class Agent:
    """One peer, and the line to the conductor."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._measures: dict[str, Any] = {}

    def say(self, **what: Any) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    def begin(self, name: str, servers: dict[str, Any]) -> bool:
        """Import the peer and tell what it can do."""
        try:
            from peers.base import Servers

            module = importlib.import_module(f"peers.{name}")
            self._measures = module.measures(Servers(**servers))
        except Exception as exc:
            traceback.print_exc()
            self.say(error=reason(exc))
            return False
        self.say(
            ok=sorted(self._measures),
            versions=versions(module.PEER.packages),
            python=platform.python_version(),
        )
        return True

    def run(self, lines: IO[str]) -> None:
        """Do what the conductor asks for, until it asks for nothing more."""
        for line in lines:
            asked = json.loads(line)
            try:
                busy = process_time_ns()
                answer = self._measures[asked["measure"]](asked["calls"])
                busy = process_time_ns() - busy
                # A measure of two processes tells where it is before it has an answer.
                for each in answer if isinstance(answer, GeneratorType) else (answer,):
                    self.say(ok=each, cpu=busy)
            except Exception as exc:
                traceback.print_exc()
                self.say(error=reason(exc))


def work(name: str, servers: dict[str, Any]) -> None:
    """Be a worker until killed."""
    from peers.base import Servers

    importlib.import_module(f"peers.{name}").worker(Servers(**servers))


def main() -> int:
    """Answer on what was standard output; what libraries print goes to the log."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    agent, servers = Agent(out), json.loads(os.environ["BENCH_SERVERS"])
    if sys.argv[2:] == ["worker"]:
        work(sys.argv[1], servers)
    if not agent.begin(sys.argv[1], servers):
        return 1
    agent.run(sys.stdin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
