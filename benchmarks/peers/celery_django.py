"""Celery's own `DjangoTask`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Peer
from .celery_parts import WITH_DJANGO, body, commit_calls, django, filling, make_app, plain_calls, work

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="celery_django",
    title="Celery's own `DjangoTask` {celery}",
    requirements=WITH_DJANGO,
    packages=("celery", "kombu", "redis", "django"),
    groups=("enqueue", "worker"),
    venv="plain",
)


def _tasks(servers: Servers) -> tuple[Any, Any]:
    django(servers)
    from celery.contrib.django.task import DjangoTask

    app = make_app(servers)
    return app, app.task(name="plain", base=DjangoTask)(body)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    app, task = _tasks(servers)
    return {**plain_calls(task), **commit_calls(task.delay_on_commit), **filling(app, plain=task)}


def worker(servers: Servers) -> None:
    """Be its worker."""
    work(_tasks(servers)[0])
