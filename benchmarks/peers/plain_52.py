"""`celery.Task` where the older package of our name runs: what that one is compared to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import old
from .celery_parts import body, commit_calls, django, filling, make_app, plain_calls, work

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = replace(
    old.PEER,
    name="plain_52",
    title="plain `celery.Task` {celery}",
    short="",
    packages=("celery", "kombu", "redis", "django"),
    groups=("enqueue", "worker"),
    base="plain",
    venv="old",
)


def _tasks(servers: Servers) -> tuple[Any, Any]:
    django(servers)
    from celery import Task

    app = make_app(servers)
    # In a Django project, Celery's own DjangoTask would be the default.
    return app, app.task(name="plain", base=Task)(body)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    app, task = _tasks(servers)
    return {**plain_calls(task), **commit_calls(task.delay), **filling(app, plain=task)}


def worker(servers: Servers) -> None:
    """Be its worker."""
    work(_tasks(servers)[0])
