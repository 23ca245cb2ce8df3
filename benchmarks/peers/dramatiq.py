"""dramatiq: no Celery at all, to show what sending a message need not cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .base import Peer, calling, marking
from .celery_parts import body, one

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="dramatiq",
    title="outside: dramatiq {dramatiq}",
    short="dramatiq {dramatiq} (no Celery)",
    requirements=("dramatiq[redis]>=2,<3",),
    packages=("dramatiq", "redis"),
    groups=("enqueue", "worker"),
)


def _actors(servers: Servers) -> tuple[Any, Any, Any]:
    from dramatiq import actor, set_broker
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=servers.broker)
    set_broker(broker)

    return broker, actor(body, actor_name="plain"), actor(marking(servers), actor_name="mark")


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    _, actor, mark = _actors(servers)

    def fill(calls: int) -> None:
        mark.send()
        for value in range(calls):
            actor.send(value, text="text")
        mark.send()

    return {"enqueue.not_unique": calling(one(actor.send)), "worker.plain": fill}


def worker(servers: Servers) -> None:
    """Be its worker, with one thread."""
    from dramatiq import Worker

    broker, *_ = _actors(servers)
    Worker(broker, worker_threads=1).start()
    while True:
        time.sleep(60)
