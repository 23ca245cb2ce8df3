"""`DjangoTask` of this repository, its claims in Redis through django-redis."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .base import Peer, calling, imported, lock_measures, resting, together
from .celery_parts import (
    IMPORTS,
    WITH_DJANGO,
    body,
    commit_calls,
    django,
    filling,
    ignored_calls,
    make_app,
    one,
    plain_calls,
    unique_calls,
    work,
)

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="ours",
    title="**`DjangoTask`**",
    short="DjangoTask",
    requirements=WITH_DJANGO,
    packages=("celery", "kombu", "redis", "django", "django-redis"),
    groups=("enqueue", "many", "worker", "locks", "beat", "package", "idle"),
    ours=True,
    renewed="yes",
)
#: What a project imports before and after it has the package.
BEFORE = f"""{IMPORTS}
import django
from django.conf import settings
settings.configure(CACHES={{"default": {{"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1"}}}})
django.setup()
from django.core.cache import caches
from django.db import transaction
caches["default"]
"""
AFTER = """from django_celery_extensions.celery import Celery
from django_celery_extensions.locks import LockTask
from django_celery_extensions.task import DjangoTask
app = Celery("bench")
task = app.task(name="bench", unique=True)(lambda: None)
"""


def project(servers: Servers, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return an app with one task of each kind."""
    django(servers, "django_celery_extensions", **options)
    from django_celery_extensions.celery import Celery

    app = make_app(servers, Celery)
    return app, {
        "plain": app.task(name="plain")(body),
        "unique": app.task(name="unique", unique=True)(body),
        "window": app.task(name="window", ignore_task_after_success=True, ignore_task_timedelta=3600)(body),
    }


def calls(tasks: dict[str, Any]) -> dict[str, Measure]:
    """Return the measures of calls."""
    window = tasks["window"]
    return {
        **plain_calls(tasks["plain"]),
        **unique_calls(tasks["unique"]),
        **ignored_calls(window, lambda value: window.apply((value,), {"text": "text"})),
        **commit_calls(tasks["plain"].delay_on_commit),
    }


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    app, tasks = project(servers)
    from celery import Task

    from django_celery_extensions.locks import lock

    from .beats import our_beat
    from .our_scripts import scripts

    # A plain task among ours: what it differs by from the plain peer is the noise between two processes.
    control = app.task(name="control", base=Task)(body)

    def holding(locks: int) -> Measure:
        def held(seconds: int) -> dict[str, float]:
            with ExitStack() as stack:
                for number in range(locks):
                    stack.enter_context(lock("idle", number))
                return resting(seconds)

        return held

    def after_work(seconds: int) -> dict[str, float]:
        with lock("idle"):
            time.sleep(0.1)
        return resting(seconds)

    def many(task: Any) -> Measure:
        return together(
            lambda values: task.apply_async_many([((value,), {"text": "text"}) for value in values])
        )

    return {
        **calls(tasks),
        "enqueue.control": calling(one(control.delay)),
        "many.many": many(tasks["plain"]),
        "many.unique": many(tasks["unique"]),
        **filling(app, plain=tasks["plain"], unique=tasks["unique"]),
        **lock_measures(lambda: lock("benchmark", blocking=True)),
        **scripts(servers),
        **our_beat(app),
        "package.import": imported(BEFORE, AFTER),
        "idle.after_work": after_work,
        "idle.holding": holding(1),
        "idle.holding_many": holding(100),
    }


def worker(servers: Servers) -> None:
    """Be its worker."""
    work(project(servers)[0])
