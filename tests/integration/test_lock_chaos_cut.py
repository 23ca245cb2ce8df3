"""A short cut of the chaos run of locks (`make chaos-locks`): the same nemesis and the same rules, within a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.cut import count, run_cut
from tests.servers import RedisServer
from tests.servers_zookeeper import ZooKeeperServer

if TYPE_CHECKING:
    from tests.conftest import MakeServer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS, KILLS, HOLDINGS = 25, 4, 60


def run(store: str) -> str:
    return run_cut("tests.lock_chaos", "--store", store, "--seconds", str(SECONDS), "--kills", str(KILLS))


def look_at(report: str) -> None:
    """See that there was enough of everything."""
    assert sum(count(f"{who} killed", report) for who in ("clients", "workers", "children")) >= KILLS, report
    assert count("holdings", report) >= HOLDINGS, report
    assert count("register: acknowledged increments", report) >= HOLDINGS, report
    assert count("register: lost updates", report) == 0
    assert count("without a lock: lost updates", report) > 0, report


def test_locks_on_redis_break_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)  # skips where there is none
    look_at(run("redis"))


@pytest.mark.chaos  # three servers in Java are much for a small machine
def test_locks_on_zookeeper_break_no_rule(make_server: MakeServer) -> None:
    make_server(RedisServer)
    make_server(ZooKeeperServer)
    look_at(run("zookeeper"))
