"""python-redis-lock as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import LASTS, Peer, lock_measures

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="python_redis_lock",
    title="python-redis-lock {python-redis-lock} `Lock`",
    requirements=("python-redis-lock>=4.0", "redis"),
    packages=("python-redis-lock", "redis"),
    groups=("locks",),
    renewed="no",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    return locks(servers, renews=False)


def locks(servers: Servers, *, renews: bool) -> dict[str, Measure]:
    """Return its measures, with a thread that renews or without."""
    from redis import Redis
    from redis_lock import Lock

    client = Redis.from_url(servers.store)
    return lock_measures(lambda: Lock(client, "benchmark", expire=LASTS, auto_renewal=renews))
