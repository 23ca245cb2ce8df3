"""The older package of our name, 0.0.38, on the newest Celery and Django that it allows: 5.2 and 3.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Peer, imported
from .celery_parts import (
    IMPORTS,
    body,
    commit_calls,
    django,
    filling,
    ignored_calls,
    make_app,
    plain_calls,
    unique_calls,
    work,
)

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="old",
    title="django-celery-extensions {django-celery-extensions} on Celery {celery}, Django {django}: the newest it allows",
    short="django-celery-extensions {django-celery-extensions}",
    # packaging: what kombu's Redis transport imports and Celery 5.2 does not ask for.
    requirements=("django-celery-extensions==0.0.38", "redis", "django-redis", "packaging"),
    packages=("django-celery-extensions", "celery", "kombu", "redis", "django", "django-redis"),
    groups=("enqueue", "worker", "package"),
    base="plain_52",
    python=">=3.10,<3.13",  # Django 3.2 imports cgi
)


def _project(servers: Servers) -> tuple[Any, dict[str, Any]]:
    django(servers, "django_celery_extensions")
    from django_celery_extensions.celery import Celery
    from django_celery_extensions.task import DjangoTask

    def task(name: str, **options: Any) -> Any:
        return app.task(name=name, base=DjangoTask, **options)(body)

    from datetime import timedelta

    hour = timedelta(hours=1)
    app = make_app(servers, Celery)
    return app, {
        "plain": task("plain"),
        "unique": task("unique", unique=True, stale_time_limit=3600),
        "window": task("window", ignore_task_after_success=True, ignore_task_timedelta=hour),
    }


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    app, tasks = _project(servers)
    window = tasks["window"]

    def open_window(value: Any) -> None:
        window._set_ignore_task_after_success((value,), {"text": "text"})

    return {
        **plain_calls(tasks["plain"]),
        **unique_calls(tasks["unique"]),
        **ignored_calls(window, open_window),
        **commit_calls(tasks["plain"].delay_on_commit),
        **filling(app, plain=tasks["plain"], unique=tasks["unique"]),
        "package.import": imported(
            IMPORTS + BEFORE, "import django_celery_extensions.task, django_celery_extensions.celery"
        ),
    }


BEFORE = """
import django
from django.conf import settings
settings.configure(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1"}})
django.setup()
from django.core.cache import caches
from django.db import transaction
caches["default"]
"""


def worker(servers: Servers) -> None:
    """Be its worker."""
    work(_project(servers)[0])
