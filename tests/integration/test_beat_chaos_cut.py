"""A short cut of the chaos run of beat (`make beat-chaos`): the same nemesis and the same rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cut import run_cut
from tests.servers import RedisServer

if TYPE_CHECKING:
    from tests.conftest import MakeServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

SECONDS = 20


def test_beat_chaos_breaks_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)  # skips where there is none
    report = run_cut("tests.beat_chaos", "--seconds", str(SECONDS), timeout=150)
    found = re.search(r"^django_celery_extensions, 3 beats +(\d+)", report, re.MULTILINE)
    assert found is not None, report
    assert int(found[1]) >= 10 * SECONDS * 0.8, report
