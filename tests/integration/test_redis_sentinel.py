"""Claims and locks behind Redis Sentinel: the master dies, its replica takes over."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from django_celery_extensions import locks
from django_celery_extensions.exceptions import StoreUnavailable
from tests.conftest import unless_missing
from tests.project import journal, tasks
from tests.servers_redis import Sentinels
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeWorker
    from tests.live import Live

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def sentinels(live_app: Live, settings: SettingsWrapper) -> Iterator[Sentinels]:
    with unless_missing(Sentinels) as found:
        # As docs/redis.md says; the timeouts keep the test short.
        cache = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://main/0",
            "OPTIONS": {
                "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "SENTINELS": found.addresses,
                "SOCKET_TIMEOUT": 1,
                "CONNECTION_POOL_KWARGS": {"retry": None},
            },
        }
        settings.CACHES = {**settings.CACHES, "default": cache}
        yield found


def told_of() -> str | None:
    """Return the task that a call is told of, None while the store can't be reached."""
    with contextlib.suppress(StoreUnavailable):
        return str(tasks.gated.delay("a").id)
    return None


def test_claims_and_locks_go_on_after_a_failover(
    sentinels: Sentinels, live_app: Live, make_worker: MakeWorker, settings: SettingsWrapper
) -> None:
    make_worker(env={"TEST_CACHES": json.dumps({"default": settings.CACHES["default"]})})
    running = tasks.gated.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    with locks.lock("n") as lock:
        assert lock
        before = lock.fence
    with locks.lock("kept", lease_timeout=60) as kept, sentinels.replica.client() as replica:
        assert kept
        wait_until(lambda: replica.exists(":1:dce:{lock:kept}"), what="it is replicated")
        (claim,) = [key for key in replica.scan_iter() if b"gated" in key]
        wait_until(lambda: replica.hget(claim, "token"), what="and so is the claim of what runs")
        sentinels.master.kill()
        with pytest.raises(StoreUnavailable), locks.lock("n"):
            pytest.fail("never reached")
        with pytest.raises(StoreUnavailable):
            tasks.gated.delay("a")
        wait_until(sentinels.has_moved, timeout=30, what="the replica is the master")
        with locks.lock("n", blocking=True, timeout=15) as after:
            assert after
            assert after.fence > before
        with locks.lock("kept") as second:
            assert not second, "what was replicated is still held"
        assert wait_until(told_of, what="the store answers") == running.id
        kept.ensure()
        journal.open_gate("a")
        assert running.get(timeout=10) == f"a:{running.id}"
        wait_until(lambda: not replica.exists(claim), what="the claim has ended in the new master")
    with locks.lock("kept") as third:
        assert third
    assert len(journal.read("start")) == 1
