"""System checks: what can be known to be wrong before the first call."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.db import connections, router

from django_celery_extensions.commands import unknown_commands
from django_celery_extensions.config import PREFIX, UNSET, imported, settings, unknown_settings
from django_celery_extensions.exceptions import StaleLimitMissing, TaskConfigurationError
from django_celery_extensions.leadership import durations
from django_celery_extensions.locks import LockTask
from django_celery_extensions.options import idle_options, limits_of, unknown_options
from django_celery_extensions.stores import claim_store, zookeeper
from django_celery_extensions.task import DjangoTask
from django_celery_extensions.timetable import entry_of, plan_of
from django_celery_extensions.timing import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery.app.task import Task


#: A database cache of fewer entries (Django's default is 300) is small for claims, windows and locks.
FEW_ENTRIES = 10_000


def _known_tasks() -> Iterator[Task[..., Any]]:
    for name, task in sorted(current_app.tasks.items()):
        if not name.startswith("celery."):
            yield task


def django_tasks() -> Iterator[DjangoTask]:
    """Yield the tasks of the current app that are ours."""
    return (task for task in _known_tasks() if isinstance(task, DjangoTask))


def check_settings(**_: object) -> list[CheckMessage]:
    """W001: unknown settings. E002: durations that can't be. E007: an unknown lock store."""
    found: list[CheckMessage] = []
    for name, likely in unknown_settings():
        hint = f"Did you mean {likely}?" if likely else None
        found.append(
            Warning(f"The setting {name} is unknown.", hint=hint, id="django_celery_extensions.W001")
        )
    durations = {
        "LOCK_TIMEOUT": settings.LOCK_TIMEOUT,
        "LOCK_SLEEP": settings.LOCK_SLEEP,
        "DEFAULT_TASK_STALE_TIME_LIMIT": settings.DEFAULT_TASK_STALE_TIME_LIMIT,
        "DEFAULT_TASK_MAX_QUEUE_WAITING_TIME": settings.DEFAULT_TASK_MAX_QUEUE_WAITING_TIME,
    }
    for name, value in durations.items():
        if value is not UNSET and not (value is None and name.startswith("DEFAULT_")):
            try:
                seconds(value, PREFIX + name)  # type: ignore[arg-type]
            except TaskConfigurationError as exc:
                found.append(Error(str(exc), id="django_celery_extensions.E002"))
    if settings.LOCK_STORE not in ("cache", "zookeeper"):
        msg = f"{PREFIX}LOCK_STORE is {settings.LOCK_STORE!r}; it can be 'cache' or 'zookeeper'."
        found.append(Error(msg, id="django_celery_extensions.E007"))
    return found


def check_cache(**_: object) -> list[CheckMessage]:
    """E003: a cache that can't keep claims or locks, where a task needs one. W009, W026, W027: one that has its limits."""
    locks_here = settings.LOCK_STORE == "cache"
    if not any(task.policy.guarded or (locks_here and isinstance(task, LockTask)) for task in django_tasks()):
        return []
    try:
        claim_store(eager=current_app.conf.task_always_eager)
    except TaskConfigurationError as exc:
        return [Error(str(exc), id="django_celery_extensions.E003")]
    options = django_settings.CACHES[settings.CACHE_NAME].get("OPTIONS", {})
    if isinstance(caches[settings.CACHE_NAME], PyMemcacheCache) and options.get("dead_timeout") != 0:
        msg = (
            f"The cache {settings.CACHE_NAME!r} answers like an empty one for a second after its Memcached failed: "
            "an outage is taken for a window or a claim that is not there."
        )
        hint = "Set OPTIONS = {'retry_attempts': 0, 'dead_timeout': 0} of the cache, so that it raises."
        return [Warning(msg, hint=hint, id="django_celery_extensions.W009")]
    return list(_limits_of_a_database_cache(caches[settings.CACHE_NAME]))


def _limits_of_a_database_cache(cache: Any) -> Iterator[CheckMessage]:
    if not isinstance(cache, DatabaseCache):
        return
    most = cache._max_entries  # noqa: SLF001 - Django has no public way
    if most < FEW_ENTRIES:
        msg = (
            f"The cache {settings.CACHE_NAME!r} keeps {most} entries: with more of them it forgets claims, windows and "
            "locks, and tasks run twice."
        )
        hint = "Set OPTIONS = {'MAX_ENTRIES': N} of the cache to more than there will ever be."
        yield Warning(msg, hint=hint, id="django_celery_extensions.W026")
    alias = router.db_for_write(cache.cache_model_class)
    database = connections[alias]
    if database.vendor == "sqlite" and database.settings_dict["ATOMIC_REQUESTS"]:
        msg = (
            f"The cache {settings.CACHE_NAME!r} is kept in the SQLite database {alias!r}, whose views run in a "
            "transaction: tasks with claims can be called there on commit only."
        )
        hint = "Call delay_on_commit in views, or give the cache a database of its own, by a router."
        yield Warning(msg, hint=hint, id="django_celery_extensions.W027")


def check_zookeeper(**_: object) -> list[CheckMessage]:
    """E010: a ZooKeeper that can't be used as it is configured; nothing is connected to."""
    if settings.LOCK_STORE != "zookeeper":
        return []
    try:
        zookeeper.check()
    except TaskConfigurationError as exc:
        return [Error(str(exc), id="django_celery_extensions.E010")]
    return []


def check_beat(**_: object) -> list[CheckMessage]:
    """E011: a lease that ends between two looks. E012: entries that can't be fired. W013: tasks nobody knows."""
    found: list[CheckMessage] = []
    if not any(each.id == "django_celery_extensions.E002" for each in check_settings()):
        try:
            durations()
        except TaskConfigurationError as exc:
            found.append(Error(str(exc), id="django_celery_extensions.E011"))
    for name, given in current_app.conf.beat_schedule.items():
        try:
            entry = entry_of(name, given, current_app)
            plan_of(entry, current_app.timezone)
        except TaskConfigurationError as exc:
            found.append(Error(str(exc), id="django_celery_extensions.E012"))
            continue
        if entry.task not in current_app.tasks:
            msg = f"beat_schedule[{name!r}] names the task {entry.task!r}, which this app does not know."
            likely = next(iter(get_close_matches(str(entry.task), current_app.tasks, n=1)), None)
            hint = (
                f"Did you mean {likely!r}?"
                if likely
                else "Is it sent by name, to workers of another project?"
            )
            found.append(Warning(msg, hint=hint, id="django_celery_extensions.W013"))
    return found


def check_stale_limits(**_: object) -> list[CheckMessage]:
    """E004: unique tasks whose claims have no stale limit."""
    found: list[CheckMessage] = []
    for task in django_tasks():
        if not task.policy.unique:
            continue
        try:
            limits_of(task, {}, {})
        except (StaleLimitMissing, TaskConfigurationError) as exc:
            found.append(Error(f"{task.name}: {exc}", id="django_celery_extensions.E004"))
    return found


def check_commands(**_: object) -> list[CheckMessage]:
    """E005: commands that are to be tasks and do not exist."""
    found: list[CheckMessage] = []
    for name, likely in unknown_commands(settings.AUTO_GENERATE_TASKS_DJANGO_COMMANDS):
        found.append(
            Error(
                f"{PREFIX}AUTO_GENERATE_TASKS_DJANGO_COMMANDS names {name!r}, which is no management command.",
                hint=f"Did you mean {likely!r}?" if likely else None,
                id="django_celery_extensions.E005",
            )
        )
    return found


def check_tasks(**_: object) -> list[CheckMessage]:
    """W006: options that nobody knows. W028: options that do nothing. E008: no CELERY_TASK_CHECKER. And whatever that finds."""
    found: list[CheckMessage] = []
    checker = None
    try:
        checker = imported("CELERY_TASK_CHECKER")
    except TaskConfigurationError as exc:
        found.append(Error(str(exc), id="django_celery_extensions.E008"))
    for task in _known_tasks():
        if isinstance(task, DjangoTask):
            for option in unknown_options(task):
                msg = f"{task.name}: the option {option!r} is known neither to Celery nor to django_celery_extensions."
                hint = "Declare it on a base class of the task if it is an attribute of your own."
                found.append(Warning(msg, hint=hint, id="django_celery_extensions.W006"))
            idle = idle_options(task)
            if idle:
                msg = f"{task.name}: {', '.join(idle)} of a task that is not unique: its duplicates are sent and run."
                hint = "Give it unique=True, or remove what it does not need."
                found.append(Warning(msg, hint=hint, id="django_celery_extensions.W028"))
        message = None if checker is None else checker(task.name, task)
        if message is not None:
            found.append(message)
    return found


CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (
    check_settings,
    check_cache,
    check_zookeeper,
    check_beat,
    check_stale_limits,
    check_commands,
    check_tasks,
)
