"""docs/tutorial.md works. `make tutorial` walks it in an empty virtual environment; here it is the tests' own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import ROOT
from tests.tutorial.walk import Walk

if TYPE_CHECKING:
    from tests.servers import RedisServer

pytestmark = pytest.mark.integration


def test_tutorial_does_what_it_says(redis_server: RedisServer, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    env = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_server.url.rpartition("/")[0],
    }
    said: list[str] = []
    Walk(tmp_path, env, said.append).through(without=("python -m pip",))
    assert "the worker ran: " in said[-1]
