"""Runs in the empty virtual environment: a project of one file uses what the wheel installed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for this run",
    INSTALLED_APPS=["django_celery_extensions", "django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    CELERY_BROKER_URL="memory://",
    CELERY_RESULT_BACKEND="cache+memory://",
    CELERY_TASK_ALWAYS_EAGER=True,
    CELERY_TASK_STORE_EAGER_RESULT=True,
    DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS={"check": {"ignore_result": False}},
    USE_TZ=True,
)

from celery.contrib.testing.worker import start_worker  # noqa: E402 - Django comes first
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

import django_celery_extensions  # noqa: E402
from django_celery_extensions.celery import Celery  # noqa: E402
from django_celery_extensions.locks import LockTask  # noqa: E402
from django_celery_extensions.task import get_django_command_task  # noqa: E402
from django_celery_extensions.testing import capture_tasks, isolated_claims  # noqa: E402

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_current()
django.setup()


def done(text: str) -> None:
    print(text)  # noqa: T201 - the caller shows it


@app.task(unique=True, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=1))
def digest(user_pk: int) -> int:
    return user_pk


@app.task(base=LockTask, bind=True)
def locked(self: LockTask) -> bool:
    with self.lock() as lock:
        return bool(lock)


def check(condition: object, text: str) -> None:
    if not condition:
        sys.exit(f"not so: {text}")
    done(text)


def main() -> None:
    place = Path(django_celery_extensions.__file__)
    check("site-packages" in place.parts, "imported from the wheel")

    optional = {"kazoo", "redis", "django_redis", "pytest", "_pytest"}
    names, without = 0, []
    for module in pkgutil.walk_packages([str(place.parent)], "django_celery_extensions."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if not error.name or error.name.partition(".")[0] not in optional:
                raise
            without.append(f"{module.name.removeprefix('django_celery_extensions.')} ({error.name})")
        names += 1
    check(names, f"{names} modules, of which these wait for an extra: {', '.join(sorted(without)) or 'none'}")

    call_command("check", fail_level="WARNING")
    done("manage.py check: no issues")

    with capture_tasks() as outbox:
        first, second = digest.delay(1), digest.delay(1)
        check(second.id == first.id, "a second call joins the first")
        try:
            with transaction.atomic():
                never = digest.delay_on_commit(2)
                raise RuntimeError  # noqa: TRY301 - it rolls back
        except RuntimeError:
            check(never.state == "WAITING", "a rolled-back call is not sent")
        outbox.run()
        check(first.get() == 1, "the outbox runs what was sent")
    with isolated_claims():
        check(digest.delay(3).get() == 3, "eager: it runs")
        check(digest.delay(3).state == "IGNORED", "eager: ignored within the window")
        check(locked.delay().get() is True, "eager: a lock")
    check(get_django_command_task("check").delay().successful(), "a command as a task")

    app.conf.task_always_eager = False
    with isolated_claims(), start_worker(app, pool="threads", perform_ping_check=False):
        check(digest.delay(4).get(timeout=10) == 4, "a worker in a thread runs it")
    (scheduler,) = entry_points(group="celery.beat_schedulers", name="LockedPersistentScheduler")
    check(scheduler.load(), "celery beat -S LockedPersistentScheduler")


main()
