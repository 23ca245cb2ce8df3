"""Claims and locks behind Redis Sentinel: the master dies, its replica takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import override_settings

from django_celery_extensions import locks
from django_celery_extensions.exceptions import StoreUnavailable
from tests.conftest import unless_missing
from tests.servers_redis import Sentinels
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def sentinels(settings: SettingsWrapper) -> Iterator[Sentinels]:
    with unless_missing(Sentinels) as found:
        # As docs/redis.md says; the timeouts keep the test short.
        caches = {
            "default": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": "redis://main/0",
                "OPTIONS": {
                    "CLIENT_CLASS": "django_redis.client.SentinelClient",
                    "SENTINELS": found.addresses,
                    "SOCKET_TIMEOUT": 1,
                    "CONNECTION_POOL_KWARGS": {"retry": None},
                },
            }
        }
        factory = "django_redis.pool.SentinelConnectionFactory"
        with override_settings(CACHES=caches, DJANGO_REDIS_CONNECTION_FACTORY=factory):
            yield found


def test_locks_go_on_after_a_failover(sentinels: Sentinels) -> None:
    with locks.lock("n") as lock:
        assert lock
        before = lock.fence
    with locks.lock("kept", lease_timeout=60) as kept:
        assert kept
        wait_until(
            lambda: sentinels.replica.client().exists(":1:dce:{lock:kept}:holders"), what="it is replicated"
        )
        sentinels.master.kill()
        with pytest.raises(StoreUnavailable), locks.lock("n"):
            pytest.fail("never reached")
        wait_until(sentinels.has_moved, timeout=30, what="the replica is the master")
        with locks.lock("n", blocking=True, timeout=15) as after:
            assert after
            assert after.fence > before
        with locks.lock("kept") as second:
            assert not second, "what was replicated is still held"
        kept.ensure()
    with locks.lock("kept") as third:
        assert third
