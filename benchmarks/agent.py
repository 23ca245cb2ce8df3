"""Runs one peer in its venv: `python benchmarks/agent.py PEER`. JSON lines in, JSON lines out; see :mod:`benchmarks`.
`python benchmarks/agent.py PEER worker` is a worker of that peer instead.

Neither this file's folder nor the repository is on its path: what is imported comes from the venv, but for `peers`.
"""

from __future__ import annotations

import cProfile
import importlib.util
import io
import json
import os
import platform
import pstats
import sys
import traceback
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path
from time import process_time_ns
from types import GeneratorType
from typing import IO, Any


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of what is installed of these."""
    return {package: version(package) for package in packages if any(distributions(name=package))}


def reason(exc: BaseException) -> str:
    """Say in one line what went wrong."""
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]


def peer_module(name: str) -> Any:
    """Return the module of a peer, from the package next to this file."""
    if "peers" not in sys.modules:
        home = Path(__file__).resolve().with_name("peers")
        spec = importlib.util.spec_from_file_location("peers", home / "__init__.py")
        assert spec is not None  # noqa: S101 - for mypy
        assert spec.loader is not None  # noqa: S101 - for mypy
        package = sys.modules["peers"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"peers.{name}")


def servers_of(said: dict[str, Any]) -> Any:
    """Return the servers that the conductor told of."""
    return importlib.import_module("peers.base").Servers(**said)


def profile(measure: Any, calls: int) -> dict[str, Any]:
    """Return where the time of so many calls goes, and how many calls of functions each of them makes.

    What measuring itself calls is not counted.
    """
    measure(100)  # connected, loaded
    with cProfile.Profile() as found:
        measure(calls)
    text = io.StringIO()
    stats = pstats.Stats(found, stream=text)
    told = {"made": round(made(stats) / calls), "top": top(stats, calls)}
    stats.strip_dirs().sort_stats("tottime").print_stats(30).sort_stats("cumulative").print_stats(30)
    return {**told, "text": text.getvalue()}


def made(stats: Any) -> int:
    """Return how many calls were made, but for those made by `peers.base`, which takes the time."""
    measuring = str(Path(__file__).with_name("peers") / "base.py")
    return sum(
        times
        for *_, callers in stats.stats.values()
        for (file, _, _), (times, *_) in callers.items()
        if file != measuring
    )


def top(stats: Any, calls: int, rows: int = 25) -> list[tuple[str, float, float, float]]:
    """Return the functions with the most own time: their name, and of one call how often, own and all seconds."""
    found = sorted(stats.stats.items(), key=lambda each: each[1][2], reverse=True)
    return [
        (spelled(*function), often / calls, own / calls, everything / calls)
        for function, (_, often, own, everything, _) in found[:rows]
    ]


def spelled(file: str, line: int, name: str) -> str:
    """Return what a function is called, without the folders of this machine."""
    if file == "~":
        return name
    folders = [*sys.path, Path(__file__).resolve().parents[1]]
    return f"{min((file.removeprefix(f'{folder}/') for folder in folders), key=len)}:{line} {name}"


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
            module = peer_module(name)
            self._measures = module.measures(servers_of(servers))
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
                measure = self._measures[asked["measure"]]
                if asked.get("profile"):
                    measure = partial(profile, measure)
                busy = process_time_ns()
                answer = measure(asked["calls"])
                busy = process_time_ns() - busy
                # A measure of two processes tells where it is before it has an answer.
                for each in answer if isinstance(answer, GeneratorType) else (answer,):
                    self.say(ok=each, cpu=busy)
            except Exception as exc:
                traceback.print_exc()
                self.say(error=reason(exc))


def work(name: str, servers: dict[str, Any]) -> None:
    """Be a worker until killed."""
    peer_module(name).worker(servers_of(servers))


def main() -> int:
    """Answer on what was standard output; what libraries print goes to the log."""
    sys.path.pop(0)  # this file's folder
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
