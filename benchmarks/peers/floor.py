"""What Redis and redis-py cost by themselves, with no task around: nothing that uses them can be below."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .base import Peer, calling, lock_measures, repeating
from .celery_parts import WITH_DJANGO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .base import Measure, Servers

PEER = Peer(
    name="floor",
    title="the floor: one command of redis-py",
    short="the floor",
    requirements=WITH_DJANGO,
    packages=("redis",),
    groups=("enqueue", "locks"),
    venv="plain",
    note="LPUSH; a script that claims and pushes; SET NX",
)
#: As long as a message of Celery's.
MESSAGE = "x" * 900
CLAIM_AND_PUSH = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'EX', 3600) then return redis.call('lpush', KEYS[2], ARGV[2]) end
return 0
"""


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from redis import Redis

    client = Redis.from_url(servers.broker)
    nothing, both = client.script_load("return 1"), client.script_load(CLAIM_AND_PUSH)
    where = client.get_connection_kwargs()
    raw = socket.create_connection((where["host"], where["port"]))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ping(_: Any) -> None:
        raw.sendall(b"PING\r\n")
        raw.recv(64)

    @contextmanager
    def held() -> Iterator[None]:
        client.evalsha(nothing, 0)
        yield
        client.evalsha(nothing, 0)

    return {
        "enqueue.ping": calling(ping),
        "enqueue.not_unique": calling(lambda _: client.lpush("messages", MESSAGE)),
        "enqueue.free": calling(
            lambda key: client.evalsha(both, 2, f"claim {key}", "messages", "id", MESSAGE)
        ),
        "enqueue.duplicate": repeating(lambda key: client.set(f"claim {key}", "id", nx=True, ex=3600)),
        **lock_measures(held, waits=False),
    }
