"""What tasks did, and gates at which they wait: files, which every broker, cache and pool leaves alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.matrix.settings import CELL

FOLDER = Path(CELL["folder"])


def write(*values: Any) -> None:
    line = json.dumps(values).encode() + b"\n"
    # One write in append mode: lines of several processes don't mix.
    file = os.open(FOLDER / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def read(event: str, key: str) -> list[list[Any]]:
    """Return the lines of an event and a key, in the order of their writing."""
    try:
        lines = (FOLDER / "journal").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in map(json.loads, lines) if line[:2] == [event, key]]


def open_gate(key: str) -> None:
    (FOLDER / f"gate-{key}").touch()


def wait_for_gate(key: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not (FOLDER / f"gate-{key}").exists():
        if time.monotonic() > deadline:
            msg = f"nobody opened the gate {key}"
            raise TimeoutError(msg)
        time.sleep(0.02)
