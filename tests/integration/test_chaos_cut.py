"""A short cut of the chaos run (`make chaos`): the same nemesis and the same rules, within a minute."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import ROOT, tied_to_us
from tests.servers import RedisServer

if TYPE_CHECKING:
    from tests.conftest import MakeServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300)]

SECONDS, KILLS, BODIES = 40, 5, 50


def count(name: str, report: str) -> int:
    found = re.search(rf"^  {re.escape(name)} +(\d+)$", report, re.MULTILINE)
    return int(found[1]) if found else 0


def test_chaos_breaks_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)  # skips where there is none
    command = [sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--kills", str(KILLS)]
    # Measuring coverage there would be one more nemesis, and its processes are killed anyway.
    foreign = ("CELERY_", "TEST_", "COV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    chaos = subprocess.Popen(
        tied_to_us(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=env,
        text=True,
        start_new_session=True,
    )
    try:
        report, _ = chaos.communicate(timeout=240)
    finally:
        if chaos.poll() is None:
            os.killpg(chaos.pid, signal.SIGKILL)
            chaos.wait()
    assert chaos.returncode == 0, report
    assert "violations: 0" in report
    assert count("workers killed", report) + count("children killed", report) >= KILLS
    assert count("bodies", report) >= BODIES, report
    assert count("witnesses found", report) >= BODIES, report
