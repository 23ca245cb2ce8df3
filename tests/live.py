"""Points the Celery app of the test process at real servers, and back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING

import kombu.pools
from celery.backends.rpc import ResultConsumer as RPCConsumer

from tests.settings import redis_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery
    from pytest_django.fixtures import SettingsWrapper

    from tests.servers import RedisServer

# The environment beats the configuration in Celery, so these must not stand in the test process.
CELERY_VARIABLES = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)


@dataclass(kw_only=True)
class Live:
    """The app in the test process and the real servers it talks to.

    *broker* carries messages and results, each in a database of its own. *store* carries the cache, and so the
    claims and leases, and nothing else: its command counters are the package's own round trips. *worker_database*
    is the migrated SQLite file of worker subprocesses; this process has pytest-django's database in memory.
    """

    app: Celery
    broker: RedisServer
    store: RedisServer
    worker_database: Path
    settings: SettingsWrapper
    broker_database: int = 0
    result_database: int = 1

    @property
    def broker_url(self) -> str:
        return self.broker.database(self.broker_database)

    @property
    def result_url(self) -> str:
        return self.broker.database(self.result_database)

    @property
    def cache_url(self) -> str:
        return self.store.url

    @property
    def env(self) -> dict[str, str]:
        """What a subprocess must be told to use the same servers with `tests.settings`."""
        return {
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": self.result_url,
            "TEST_REDIS_URL": self.cache_url,
            "TEST_DATABASE": str(self.worker_database),
        }

    def queued(self, queue: str = "celery") -> int:
        """Return how many messages wait in *queue* and were taken by no worker."""
        with self.broker.client(self.broker_database) as client:
            return int(client.llen(queue))

    def use(self, broker_database: int, result_database: int) -> None:
        """Point the app at these databases, emptied but for what a running worker has bound there."""
        self.broker_database, self.result_database = broker_database, result_database
        with self.broker.client(broker_database) as client:
            stale = [key for key in client.scan_iter(count=1000) if not key.startswith(b"_kombu.binding.")]
            if stale:
                client.delete(*stale)
        with self.broker.client(result_database) as client:
            client.flushdb()
        self.store.flush()
        # Through Django's settings, which the app reads whenever it is asked: what is set on `app.conf` itself
        # comes second to them in Celery 5.5.
        self.settings.CELERY_BROKER_URL = self.broker_url
        self.settings.CELERY_RESULT_BACKEND = self.result_url
        self.settings.CELERY_TASK_ALWAYS_EAGER = False
        forget_connections(self.app)


def forget_connections(app: Celery) -> None:
    """Make *app* connect anew, to what its configuration says now.

    Celery keeps the broker's pool, the producers, the result backend (per app or per thread) and what was built
    on them (`amqp`, `control`, `events`) once they were used.
    """
    backend = app._backend
    consumer = getattr(backend, "result_consumer", None)
    if isinstance(consumer, RPCConsumer):
        if consumer._consumer is not None:
            consumer.stop()
            consumer.on_after_fork()
    elif consumer is not None:
        consumer.stop()
        # A result that is dropped later would connect again, to say goodbye to a server that may be gone.
        consumer.subscribed_to.clear()
        consumer._pubsub = None
    client = vars(backend).get("client") if backend is not None else None
    connections = getattr(client, "connection_pool", None)  # a client in memory has none
    if connections is not None:
        connections.disconnect()
    kombu.pools.reset()
    app._pool = None
    app._backend_cache = None
    app._local = local()
    for name in ("amqp", "control", "events"):
        vars(app).pop(name, None)


def point_app_at(live: Live) -> Iterator[Live]:
    """Use the servers of *live*, emptied, in this process for as long as the generator waits.

    Django's settings are put back by the fixture of pytest-django.
    """
    variables = {name: os.environ.pop(name) for name in CELERY_VARIABLES if name in os.environ}
    live.settings.CACHES = {**live.settings.CACHES, "default": redis_cache(live.cache_url)}
    try:
        live.use(live.broker_database, live.result_database)
        yield live
    finally:
        forget_connections(live.app)
        os.environ.update(variables)


def keep_configuration(app: Celery) -> Iterator[None]:
    """Undo what is set on `app.conf` while the generator waits.

    Setting the old value again would not do: it would hide Django's settings from then on.
    """
    _ = app.conf.broker_url  # reading makes the configuration; before that `changes` is something else
    changes = app.conf.changes
    before = dict(changes)
    yield
    changes.clear()
    changes.update(before)
