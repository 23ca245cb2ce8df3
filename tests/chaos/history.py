"""What happened, one JSON line per event, in a file for each process.

A line is one write to a file that was opened for appending: it survives the SIGKILL of its writer, and needs
no server. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic
from typing import Any

#: Environment variable that names the directory of the files.
DIRECTORY = "CHAOS_DIRECTORY"

Event = dict[str, Any]

_opened: dict[int, int] = {}


def note(event: str, **fields: Any) -> None:
    """Write one event down; its time `t` is now unless it is given."""
    pid = os.getpid()
    if pid not in _opened:  # a forked child writes to a file of its own
        path = Path(os.environ[DIRECTORY]) / f"{pid}-{monotonic():.3f}.jsonl"
        _opened.clear()
        _opened[pid] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    line = json.dumps({"e": event, "t": monotonic(), **fields}) + "\n"
    os.write(_opened[pid], line.encode())


def forget() -> None:
    """Write to a new file from now on: this process begins another run."""
    for number in _opened.values():
        os.close(number)
    _opened.clear()


def read(directory: Path) -> list[Event]:
    """Return all events, in the order of their times; the last line of a killed writer may be cut."""
    lines = [
        line for path in directory.glob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)
    ]
    events = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return sorted(events, key=lambda event: float(event["t"]))
