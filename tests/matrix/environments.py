"""The virtual environments of the cells: those of tox.ini, in .tox/."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.matrix.cells import DIMENSIONS, INSTALLED, LOWEST, OLDEST
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a row of the table tells of an environment.
LIBRARIES = (
    "django",
    "celery",
    "kombu",
    "redis",
    "django-redis",
    "django-valkey",
    "valkey",
    "pymemcache",
    "psycopg",
    "gevent",
    "eventlet",
    "django-celery-results",
)
#: Seconds that an installation may take.
TIMEOUT = 900

_TELL = """
import importlib.metadata, json, platform, sys
told = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        told[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(told))
"""


class NotThere(Exception):
    """The environment can't be made here."""


class NoInterpreter(NotThere):
    """That version of Python is not installed."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An interpreter and what is installed for it."""

    name: str
    python: Path
    versions: Mapping[str, str] = field(default_factory=dict)


def environment(name: str) -> Environment:
    """Return an environment, made if it is not there or is not up to date. Raises NotThere."""
    python = Path(sys.executable) if name == INSTALLED else _from_tox(name)
    told = subprocess.run(
        [str(python), "-c", _TELL, *LIBRARIES], check=True, capture_output=True, text=True, timeout=60
    )
    return Environment(name=name, python=python, versions=json.loads(told.stdout))


def _from_tox(name: str) -> Path:
    version = OLDEST["python"] if name == LOWEST else f"{name[2]}.{name[3:].partition('-')[0]}"
    interpreter(version)
    folder = ROOT / ".tox" / name
    stamp = folder / ".matrix"
    recipe = hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in ("tox.ini", "pyproject.toml")))
    if not stamp.exists() or stamp.read_text() != recipe.hexdigest():
        command = [sys.executable, "-m", "tox", "run", "-q", "--notest", "-e", name]
        env = {**os.environ, "PATH": _path(), "UV_PYTHON_DOWNLOADS": "never"}
        done = subprocess.run(
            command, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=TIMEOUT
        )
        if done.returncode != 0:
            raise NotThere(_why(done.stdout + done.stderr))
        stamp.write_text(recipe.hexdigest())
    return folder / "bin" / "python"


def _why(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() or "cause:" in line]
    return "can't be installed: " + " ".join(told or lines[-3:])[:300]


@lru_cache
def interpreter(version: str) -> Path:
    """Return the newest ``python3.x`` of that version, on PATH or kept by pyenv. Raises NoInterpreter."""
    program = f"python{version}"
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(
        kept.glob(f"{version}.*/bin/{program}"), key=lambda path: int(path.parts[-3].rpartition(".")[2])
    )
    on_path = shutil.which(program)
    # A shim of pyenv may be there for a version that it doesn't run.
    for candidate in [*([Path(on_path)] if on_path else []), *reversed(found)]:
        done = subprocess.run(
            [str(candidate), "-c", "import venv"], check=False, capture_output=True, timeout=60
        )
        if done.returncode == 0:
            return candidate
    msg = f"Python {version} is not installed"
    raise NoInterpreter(msg)


def _path() -> str:
    """Return PATH with the folders of the interpreters that were found, where tox looks for them."""
    folders = [str(found.parent) for found in map(_found, DIMENSIONS["python"]) if found is not None]
    return os.pathsep.join([*dict.fromkeys(folders), os.environ["PATH"]])


def _found(version: str) -> Path | None:
    try:
        return interpreter(version)
    except NoInterpreter:
        return None
