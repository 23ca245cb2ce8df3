"""A short cut of the chaos run of beat (`make beat-chaos`): the same nemesis and the same rules."""

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

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

SECONDS = 30


def test_beat_chaos_breaks_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)  # skips where there is none
    foreign = ("CELERY_", "TEST_", "COV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    chaos = subprocess.Popen(
        tied_to_us([sys.executable, "-m", "tests.beat_chaos", "--seconds", str(SECONDS)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=env,
        text=True,
        start_new_session=True,
    )
    try:
        report, _ = chaos.communicate(timeout=150)
    finally:
        if chaos.poll() is None:
            os.killpg(chaos.pid, signal.SIGKILL)
            chaos.wait()
    assert chaos.returncode == 0, report
    assert "violations: 0" in report
    found = re.search(r"^django_celery_extensions, 3 beats +(\d+)", report, re.MULTILINE)
    assert found is not None, report
    assert int(found[1]) >= 10 * SECONDS * 0.8, report
