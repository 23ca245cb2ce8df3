"""redis-py's own lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import LASTS, Peer, lock_measures
from .celery_parts import WITH_DJANGO

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="redis_py",
    title="redis-py {redis} `Lock` (polls each 0.1 s)",
    requirements=WITH_DJANGO,
    packages=("redis",),
    groups=("locks",),
    venv="plain",
    renewed="no",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from redis import Redis

    client = Redis.from_url(servers.store)
    return lock_measures(lambda: client.lock("benchmark", timeout=LASTS))
