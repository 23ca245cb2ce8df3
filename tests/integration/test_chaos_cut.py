"""A short cut of the chaos run (`make chaos`): the same nemesis and the same rules, within a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kombu
import pytest

from tests.chaos.cut import count, run_cut
from tests.servers import RedisServer

if TYPE_CHECKING:
    from tests.conftest import MakeServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        kombu.VERSION < (5, 6), reason="kombu looks for expired messages every 100 s before 5.6"
    ),
]

SECONDS, KILLS, BODIES = 40, 5, 50


def test_chaos_breaks_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)  # skips where there is none
    report = run_cut("tests.chaos", "--seconds", str(SECONDS), "--kills", str(KILLS))
    assert count("workers killed", report) + count("children killed", report) >= KILLS
    assert count("bodies", report) >= BODIES, report
    assert count("witnesses found", report) >= BODIES, report
