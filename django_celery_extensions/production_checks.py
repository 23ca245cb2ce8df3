"""System checks for what bites in production: time limits that do not fit together, and servers that forget.

Those that connect, and those that can't know whether it matters, run with ``manage.py check --deploy`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import current_app
from django.core.cache import caches
from django.core.checks import CheckMessage, Info, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured

from django_celery_extensions.checks import django_tasks
from django_celery_extensions.commands import CommandTask
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import CeleryError
from django_celery_extensions.options import limits_of, retry_delays
from django_celery_extensions.result_backends import is_missing, readable
from django_celery_extensions.stores.redis_client import client_of, is_client_error, is_redis, text
from django_celery_extensions.timing import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_celery_extensions.task import DjangoTask

#: Seconds after which a broker hands out a message again that was not acknowledged, unless it is told otherwise:
#: kombu's transports.
VISIBILITY_TIMEOUTS = {"redis": 3600.0, "rediss": 3600.0, "sentinel": 3600.0, "sqs": 1800.0}


def check_visibility_timeout(**_: object) -> list[CheckMessage]:
    """W020: messages that come back while they are worked on, or while they wait for their retry."""
    transport = urlsplit(str(current_app.conf.broker_url or "")).scheme.partition("+")[0]
    if transport not in VISIBILITY_TIMEOUTS:
        return []
    given = (current_app.conf.broker_transport_options or {}).get("visibility_timeout")
    timeout = VISIBILITY_TIMEOUTS[transport] if given is None else float(given)
    found: list[CheckMessage] = []
    for task in django_tasks():
        longest, what = max(_unacknowledged(task), default=(0.0, ""))
        if longest >= timeout:
            msg = (
                f"{task.name}: {what} is {longest:g} s, and the broker hands a message out again after "
                f"{timeout:g} s: it will be delivered twice."
            )
            hint = (
                f"Set CELERY_BROKER_TRANSPORT_OPTIONS = {{'visibility_timeout': N}} to more than {longest:g}."
            )
            found.append(Warning(msg, hint=hint, id="django_celery_extensions.W020"))
    return found


def _unacknowledged(task: DjangoTask) -> list[tuple[float, str]]:
    """Return how long a message of a task can stay unacknowledged, and by what."""
    delays = [
        seconds(delay, "default_retry_delays", or_zero=True)
        for delay in retry_delays("", task.default_retry_delays) or ()
    ]
    found = [(delay, "a retry delay") for delay in delays]
    if task.acks_late:
        limits = {"its time_limit": task.time_limit, "its soft_time_limit": task.soft_time_limit}
        found += [(float(limit), what) for what, limit in limits.items() if limit is not None]
    return found


def check_limits(**_: object) -> list[CheckMessage]:
    """W021: claims that go stale before their task's time is over."""
    found: list[CheckMessage] = []
    for task in django_tasks():
        if not task.policy.unique:
            continue
        limit = task.soft_time_limit if task.time_limit is None else task.time_limit
        try:
            stale = limits_of(task, {}, {}).stale
        except (CeleryError, ImproperlyConfigured):
            continue  # E004 says so
        if limit is not None and stale < limit:
            msg = f"{task.name}: its claim goes stale after {stale:g} s, but it may run for {limit:g} s: a second one can start."
            hint = "Give it a stale_time_limit above its time limit."
            found.append(Warning(msg, hint=hint, id="django_celery_extensions.W021"))
    return found


def check_results(**_: object) -> list[CheckMessage]:
    """I022: duplicates that find no result: in a canvas, to take over; of other callers, to wait for."""
    found: list[CheckMessage] = []
    for task in django_tasks():
        if not task.policy.unique or isinstance(task, CommandTask):
            continue
        if task.ignore_result or is_missing(task.backend):
            msg = f"{task.name} is unique and stores no result: a duplicate of it in a chain, group or chord runs again."
            hint = "Store its results (ignore_result=False and a result backend) if it is used in a canvas."
        elif not readable(task.backend):
            msg = (
                f"{task.name} is unique, and the result backend rpc:// tells its result to the caller whose message it was: "
                "another caller who joined gets none, and a duplicate in a chain or group runs again."
            )
            hint = "Set CELERY_RESULT_BACKEND to one that keeps results if somebody waits for them."
        else:
            continue
        found.append(Info(msg, hint=hint, id="django_celery_extensions.I022"))
    return found


def check_eviction(**_: object) -> list[CheckMessage]:
    """W023: a Redis that evicts what it was given. W024: the same, shared with the results. Connects."""
    if not any(task.policy.guarded for task in django_tasks()):
        return []
    try:
        cache = caches[settings.CACHE_NAME]
        if not is_redis(cache):
            return []
        client = client_of(cache)
        policy, most = _memory_policy(client)
    except (CeleryError, ImproperlyConfigured):
        return []  # E003 says so
    except Exception as exc:
        if not is_client_error(exc):
            raise
        msg = f"The Redis behind the cache {settings.CACHE_NAME!r} could not be asked for its maxmemory-policy: {exc}"
        return [Info(msg, id="django_celery_extensions.I025")]
    if policy == "noeviction" or not most:
        return []
    msg = (
        f"The Redis behind the cache {settings.CACHE_NAME!r} has maxmemory-policy {policy}: out of memory it forgets claims, "
        "ignore windows and locks, and tasks run twice."
    )
    hint = "Give them a server, and a cache alias, of their own with maxmemory-policy noeviction."
    found: list[CheckMessage] = [Warning(msg, hint=hint, id="django_celery_extensions.W023")]
    if _shares_its_database(client):
        msg = "Results and claims share one Redis database that evicts: results push claims out."
        hint = "Point CELERY_RESULT_BACKEND, or DJANGO_CELERY_EXTENSIONS_CACHE_NAME, at another server."
        found.append(Warning(msg, hint=hint, id="django_celery_extensions.W024"))
    return found


def _memory_policy(client: Any) -> tuple[str, int]:
    memory = client.info("memory")
    return text(memory.get("maxmemory_policy", "noeviction")), int(memory.get("maxmemory", 0))


def _shares_its_database(client: Any) -> bool:
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return False
    cache = pool.connection_kwargs
    results = urlsplit(str(current_app.conf.result_backend or ""))
    return results.scheme in ("redis", "rediss") and (
        results.hostname or "localhost",
        results.port or 6379,
        int(results.path.strip("/") or 0),
    ) == (cache.get("host", "localhost"), int(cache.get("port", 6379)), int(cache.get("db") or 0))


CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (check_visibility_timeout, check_limits)
DEPLOY_CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (check_results, check_eviction)
