"""kazoo's recipe of a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import LASTS, Peer, lock_measures

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="kazoo",
    title="kazoo {kazoo} `Lock`",
    requirements=("kazoo>=2.10",),
    packages=("kazoo",),
    groups=("locks",),
    zookeeper=True,
    renewed="yes",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from kazoo.client import KazooClient

    client = KazooClient(servers.zookeeper, timeout=LASTS)
    client.start()
    return lock_measures(lambda: client.Lock("/benchmark-kazoo"))
