"""A broker, a result backend and a worker of a test module: `tests.live` for what isn't Redis."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery import group
from django.db import connections
from django.test import override_settings

from tests.live import CELERY_VARIABLES, forget_connections
from tests.project import journal, tasks
from tests.project.celery import app
from tests.settings import redis_cache
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from celery import Celery
    from celery.result import AsyncResult

    from tests.servers import RedisServer


@dataclass(kw_only=True)
class Site:
    """This process as a client of a broker and a result backend, and its workers on the same."""

    settings: Mapping[str, Any]
    database: Path
    app: Celery = app
    workers: list[Worker] = field(default_factory=list)

    def start_worker(self, **options: Any) -> Worker:
        databases = {"default": {"ENGINE": "django.db.backends.sqlite3", **in_file(self.database)}}
        settings = {**self.settings, "CELERY_TASK_ALWAYS_EAGER": False, "DATABASES": databases}
        options["env"] = {"TEST_SETTINGS": json.dumps(settings), **options.get("env", {})}
        self.workers.append(Worker(**options))
        return self.workers[-1].ready()

    @property
    def worker(self) -> Worker:
        return self.workers[-1]


@contextmanager
def site(store: RedisServer, database: Path, **settings: Any) -> Iterator[Site]:
    """Point the app at what *settings* (of Django) say; *store*, emptied, keeps the claims and the journal."""
    store.flush()
    settings["CACHES"] = {"default": redis_cache(store.url), **settings.get("CACHES", {})}
    settings["TEST_JOURNAL"] = store.database(1)
    variables = {name: os.environ.pop(name) for name in CELERY_VARIABLES if name in os.environ}
    made = Site(settings=settings, database=database)
    with ExitStack() as stack:
        stack.callback(os.environ.update, variables)
        stack.enter_context(override_settings(**settings, CELERY_TASK_ALWAYS_EAGER=False))
        forget_connections(app)
        stack.callback(forget_connections, app)
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.close()


def in_file(path: Path) -> dict[str, Any]:
    """Return what DATABASES says of a SQLite file that several processes write to."""
    # A transaction that reads first and then wants to write fails at once, whatever the timeout.
    return {"NAME": str(path), "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"}}


@contextmanager
def in_database(path: Path) -> Iterator[None]:
    """Use this SQLite file in this process, in all its threads, in place of the test database."""
    known = connections["default"]
    configuration = connections.settings["default"]
    before = dict(configuration)
    configuration.update(in_file(path))
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"] = known
        configuration.update(before)


def members_take_over(place: Site, first: AsyncResult[Any], second: AsyncResult[Any]) -> None:
    """Two members of a group wait for the run of `tasks.gated` that *second* joined, and take over its result."""
    members = group(tasks.gated.si("a"), tasks.gated.si("a"))()
    wait_until(
        lambda: place.worker.log().count("is not run: it waits") >= 2,
        what=lambda: f"both members are sent again; {place.worker.log()}",
    )
    journal.open_gate("a")
    assert first.get(timeout=20) == second.get(timeout=20) == f"a:{first.id}"
    assert members.get(timeout=20) == [f"a:{first.id}"] * 2
    assert len(journal.read("start")) == 1
