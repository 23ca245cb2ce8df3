"""huey: no Celery at all either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Peer, calling, marking
from .celery_parts import body, one

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="huey",
    title="outside: huey {huey}",
    short="huey {huey} (no Celery)",
    requirements=("huey>=3,<4", "redis"),
    packages=("huey", "redis"),
    groups=("enqueue", "worker"),
)


def _tasks(servers: Servers) -> tuple[Any, Any, Any]:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=servers.broker, results=False)

    return huey, huey.task(name="plain")(body), huey.task(name="mark")(marking(servers))


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    _, task, mark = _tasks(servers)

    def fill(calls: int) -> None:
        mark()
        for value in range(calls):
            task(value, text="text")
        mark()

    return {"enqueue.not_unique": calling(one(task)), "worker.plain": fill}


def worker(servers: Servers) -> None:
    """Be its worker, with one thread."""
    _tasks(servers)[0].create_consumer(workers=1, worker_type="thread", periodic=False).run()
