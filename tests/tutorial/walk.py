"""Reads the page, writes its files, runs its commands and compares what they print."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from tests.processes import ROOT, Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_SECONDS = 300
RUNS = 3


class Walk:
    """One walk through the page, in a folder that starts empty."""

    def __init__(self, folder: Path, env: Mapping[str, str], say: Callable[[str], Any]) -> None:
        self.folder = folder
        self.env = dict(env)
        self.say = say
        self.workers: list[Process] = []

    def through(self, *, without: tuple[str, ...] = ()) -> None:
        """Do all that the page says, leaving out the commands that begin like one of *without*."""
        try:
            for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
                if kind == "python":
                    self.write(text)
                    continue
                for command, output in commands(text):
                    if not command.startswith(without):
                        self.run(command, output)
            self.check_worker()
        finally:
            for worker in self.workers:
                worker.stop()

    def write(self, text: str) -> None:
        """Write the file that the block's first line names, or add to it."""
        name, _, rest = text.splitlines()[0].removeprefix("# ").partition(",")
        self.say(f"{name}{rest}")
        with (self.folder / name).open("a" if rest else "w", encoding="utf-8") as file:
            file.write(text)

    def run(self, command: str, output: list[str]) -> None:
        """Run a command in a shell; a worker goes on in the background."""
        self.say(f"$ {command}")
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return
        if " worker " in command:
            # `exec`: the process group's leader is the worker itself.
            shell = ["bash", "-c", f"cd '{self.folder}' && exec {command}"]
            worker = Process(shell, log=self.folder.parent / "worker.log", env=self.env)
            self.workers.append(worker)
            wait_until(lambda: " ready." in worker.log(), 60, worker.log)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        for line in done.stdout.splitlines():
            self.say(f"  {line}")
        assert done.returncode == 0, done.stdout
        if output:
            assert done.stdout.splitlines() == output

    def check_worker(self) -> None:
        """Hold the page's last word against the worker's log."""
        [worker] = self.workers
        log = worker.log
        wait_until(lambda: len(runs(log())) == RUNS, 30, log)
        self.say(f"the worker ran: {', '.join(runs(log()))}")
        assert sorted(runs(log())) == ["sent to 1", "sent to 1", "sent to 2"], log()


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give each command of a console block with the lines that it is to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        yield command, output


def runs(log: str) -> list[str]:
    """What the runs in a worker's log returned."""
    return re.findall(r"succeeded in \S+: '(.*)'", log)
