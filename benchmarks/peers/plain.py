"""`celery.Task`, as it comes: what everything else is compared to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer, calling, together
from .celery_parts import body, configure, django, in_one_transaction, in_transaction

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="plain",
    title="plain `celery.Task`",
    requirements=("celery[redis]==5.7.*", "django>=5.2,<5.3", "django-redis"),
    packages=("celery", "kombu", "redis", "django"),
    groups=("enqueue", "many"),
)


def measures(servers: Servers) -> dict[str, Measure]:
    from celery import Celery

    django(servers)
    app = configure(Celery("bench"), servers)
    task = app.task(name="plain")(body)
    return {
        "enqueue.not_unique": calling(task.delay),
        "enqueue.on_commit": calling(in_transaction(task.delay)),
        "enqueue.on_commit_1000": together(in_one_transaction(task.delay)),
        "many.loop": together(lambda values: [task.delay(value) for value in values]),
    }
