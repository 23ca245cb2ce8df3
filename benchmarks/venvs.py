"""A venv for each peer, in .bench/venvs: made once, and again when its requirements change."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

ROOT = Path(__file__).resolve().parent.parent
#: All that is made and need not be kept: venvs, logs, results.
HOME = ROOT / ".bench"
#: Seconds that one step of an installation may take.
PATIENCE = 300


class NotInstalledError(Exception):
    """The peer could not be installed; the message says why."""


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a peer's venv, which is made where it is missing or old.

    Raises :class:`NotInstalledError`.
    """
    venv = HOME / "venvs" / (peer.venv or peer.name)
    python, stamp = venv / "bin" / "python", venv / "made-of.json"
    wanted = json.dumps(
        [peer.requirements, peer.overrides, _own(peer), peer.python or platform.python_version()]
    )
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    _uv("venv", "--quiet", "--no-python-downloads", "--python", peer.python or sys.executable, str(venv))
    install = ["pip", "install", "--quiet", "--python", str(python), *peer.requirements]
    if peer.ours:
        install += ["-r", str(ROOT / "pyproject.toml"), "--all-extras"]
    if peer.overrides:
        overrides = venv / "overrides.txt"
        overrides.write_text("\n".join(peer.overrides) + "\n")
        install += ["--override", str(overrides)]
    _uv(*install)
    stamp.write_text(wanted)
    return python


def _own(peer: Peer) -> str:
    return (ROOT / "pyproject.toml").read_text() if peer.ours else ""


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "--no-config", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as exc:
        msg = f"uv {arguments[0]} took longer than {PATIENCE} s"
        raise NotInstalledError(msg) from exc
    if done.returncode:
        raise NotInstalledError(" ".join(done.stderr.split())[:300].replace(str(ROOT), "."))
