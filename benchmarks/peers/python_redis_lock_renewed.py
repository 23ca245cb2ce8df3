"""python-redis-lock with a thread that renews, as ours are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import python_redis_lock

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = replace(
    python_redis_lock.PEER,
    name="python_redis_lock_renewed",
    title="python-redis-lock {python-redis-lock} `Lock(auto_renewal=True)`",
    venv="python_redis_lock",
    renewed="yes",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    return python_redis_lock.locks(servers, renews=True)
