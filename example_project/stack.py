"""Starts the shop: Redis, databases, worker, site, and beat where it is wanted."""

import os
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from example_project.client import open_url
from example_project.processes import Child, ProcessError, Processes
from example_project.redis_server import provide_redis

PREPARE_SECONDS = 60.0
READY_SECONDS = 45.0


@dataclass(frozen=True)
class Stack:
    """The running shop."""

    url: str
    worker: Child
    site: Child


def start_stack(
    processes: Processes,
    data: Path,
    namespace: str,
    port: int,
    say: Callable[[str], None],
    beat: bool = False,
) -> Stack:
    """Start everything and return when worker and site answer. Raises ``ProcessError`` if one doesn't."""
    redis = provide_redis(processes)
    say(f"redis: {redis.origin}")
    data.mkdir(parents=True, exist_ok=True)
    settings = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "REDIS_URL": redis.url,
        "SHOP_DATA": str(data),
        "SHOP_NAMESPACE": namespace,
        "DJANGO_RUNSERVER_HIDE_WARNING": "true",
    }
    processes.env.update(settings)
    os.environ.update(settings)

    say("databases: migrating SQLite")
    migration = processes.python("setup", "manage.py", "prepare_shop", quiet=True)
    if migration.finish(PREPARE_SECONDS):
        raise ProcessError(f"the databases could not be prepared\n{migration.tail()}")
    processes.forget(migration)

    say("starting a Celery worker (prefork, 2 processes) and the site")
    celery = ("-m", "celery", "-q", "-A", "example_project")
    name, alone = f"{namespace}@%h", ("--without-gossip", "--without-mingle")
    worker = processes.python(
        "worker", *celery, "worker", "-c", "2", "-P", "prefork", "-l", "INFO", "-n", name, *alone
    )
    address = f"127.0.0.1:{port}"
    site = processes.python("site", "manage.py", "runserver", "--noreload", address)
    if beat:
        scheduler = ("-S", "LockedPersistentScheduler", "--pidfile=")
        processes.python("beat", *celery, "beat", "-l", "INFO", *scheduler)
    url = f"http://{address}"
    processes.wait_until(lambda: _answers(url), READY_SECONDS, "the site")
    processes.wait_until(lambda: _is_ready(worker), READY_SECONDS, "the worker")
    return Stack(url, worker, site)


def _answers(url: str) -> bool:
    try:
        with open_url(url + "/", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _is_ready(worker: Child) -> bool:
    return any(line.endswith(" ready.") for line in list(worker.lines))
