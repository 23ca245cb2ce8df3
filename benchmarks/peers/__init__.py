"""What is measured: a module for each peer. They run in venvs of their own and import nothing of the conductor's."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Peer

#: In the order of the tables.
NAMES = (
    "plain ours ours_rediscache ours_zookeeper celery_django celery_once celery_singleton celery_heimdall"
    " celery_heimdall_tuned old_57 plain_52 old redis_py python_redis_lock python_redis_lock_renewed kazoo redbeat"
    " dramatiq huey floor"
).split()


def every_peer() -> list[Peer]:
    """Return all of them."""
    return [import_module(f"{__name__}.{name}").PEER for name in NAMES]
