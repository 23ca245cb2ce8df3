"""`celery.Task`, as it comes: what everything else is compared to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Peer, imported, resting, together
from .celery_parts import (
    IMPORTS,
    WITH_DJANGO,
    body,
    commit_calls,
    django,
    filling,
    looped,
    make_app,
    plain_calls,
    work,
)

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="plain",
    title="plain `celery.Task` {celery}",
    requirements=WITH_DJANGO,
    packages=("celery", "kombu", "redis", "django"),
    groups=("enqueue", "many", "worker", "beat", "package", "idle"),
)


def _tasks(servers: Servers) -> tuple[Any, Any]:
    django(servers)
    from celery import Task

    app = make_app(servers)
    # In a Django project, Celery's own DjangoTask would be the default.
    return app, app.task(name="plain", base=Task)(body)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from .beats import plain_beat

    app, task = _tasks(servers)

    def batched(values: list[Any]) -> None:
        with app.producer_or_acquire() as producer, producer.batch():
            looped(lambda *args, **kwargs: task.apply_async(args, kwargs, producer=producer))(values)

    return {
        **plain_calls(task),
        **commit_calls(task.delay),
        "many.loop": together(looped(task.delay)),
        "many.kombu_batch": together(batched),
        **filling(app, plain=task),
        **plain_beat(app),
        "package.import": imported("", IMPORTS),
        "idle.nothing": resting,
    }


def worker(servers: Servers) -> None:
    """Be its worker."""
    work(_tasks(servers)[0])
