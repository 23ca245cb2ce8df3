"""`python -m tests.tutorial`: the tutorial in an empty virtual environment, with a Redis of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.processes import ROOT
from tests.servers import RedisServer
from tests.tutorial.walk import Walk


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a walk is watched


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder, RedisServer().start() as redis:
        place = Path(folder)
        say("an empty virtual environment")
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
        env = {
            "PATH": f"{place / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", folder),
            "CLONE": str(ROOT),
            "REDIS_URL": redis.url.removesuffix("/0"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_QUIET": "2",
        }
        began = time.monotonic()
        Walk(place, env, say).through()
        say(f"walked in {time.monotonic() - began:.0f} s, of the 5 minutes that the page promises")
    return 0


if __name__ == "__main__":
    sys.exit(main())
