"""celery-redbeat: a beat whose schedule is in Redis, under a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer
from .celery_parts import CELERY, make_app

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="redbeat",
    title="redbeat {celery-redbeat}",
    requirements=(*CELERY, "celery-redbeat>=2.4"),
    packages=("celery-redbeat", "celery", "redis"),
    groups=("beat",),
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from .beats import redbeat_beat

    return redbeat_beat(make_app(servers, redbeat_redis_url=servers.store))
