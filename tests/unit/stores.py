"""Every store of claims that the contract suite runs against, with its real server."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.cache_client import whole
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.base import ClaimStore
    from tests.servers import RedisServer

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
DJANGOS_OWN = "django.core.cache.backends.redis.RedisCache"
DATABASE = "django.core.cache.backends.db.DatabaseCache"

#: Stores on a real Redis or Valkey: the cache's backend, the fixture of its server, whether the client decodes.
ON_REDIS: dict[str, tuple[str, str, bool]] = {
    "django-redis": (DJANGO_REDIS, "store_server", False),
    "django-redis, decoded, on valkey": (DJANGO_REDIS, "valkey_server", True),
    "django's redis": (DJANGOS_OWN, "store_server", False),
    "django's redis, decoded, on valkey": (DJANGOS_OWN, "valkey_server", True),
    "django-valkey": (DJANGO_VALKEY, "valkey_server", False),
}
REDIS = tuple(ON_REDIS)
DATABASES = ("sqlite", "postgresql")
OTHERS = ("fakeredis", "memcached", *DATABASES, "locmem")
#: Another way to servers that the above use too: tests that wait for an end of something leave it out.
CLUSTER = "redis cluster"
MORE = (CLUSTER, "pylibmc")
NO_PYLIBMC = "it has no wheel for this Python"


@dataclass(kw_only=True)
class Backend:
    """A store, and what the suite has to know about it."""

    name: str
    store: ClaimStore
    cache: Any
    #: Seconds of the shortest life that it can give.
    shortest: float
    #: The server behind a store of `REDIS`.
    server: Any = None

    def let_end(self) -> None:
        """Let everything end that has the shortest life. What has ended is not looked at, and so stays where it is.

        Where the cache compares the end with its process's clock, everything ends three seconds sooner.
        """
        if self.name in DATABASES:
            sooner = {
                "sqlite": "datetime(expires, '-3 seconds')",
                "postgresql": "expires - interval '3 seconds'",
            }
            with connections["claims"].cursor() as cursor:
                cursor.execute(f"UPDATE claims_table SET expires = {sooner[self.name]}")  # noqa: S608
        elif self.name == "locmem":
            ends = self.cache._expire_info
            ends.update({key: end - 3 for key, end in ends.items()})
        else:
            end = time.monotonic() + (whole(self.shortest) if self.shortest >= 1 else 2 * self.shortest)
            wait_until(lambda: time.monotonic() > end, timeout=5)

    @contextlib.contextmanager
    def of_this_thread(self) -> Iterator[ClaimStore]:
        """Yield the store as a thread gets it, and close what the thread opened (the cache, the database)."""
        try:
            yield claim_store(eager=True)
        finally:
            close_what_this_thread_opened()


def close_what_this_thread_opened() -> None:
    caches.close_all()
    connections.close_all()


def redis_options(name: str, url: str) -> dict[str, Any]:
    backend, _, decoded = ON_REDIS[name]
    configuration: dict[str, Any] = {"BACKEND": backend, "LOCATION": url}
    if decoded:
        of_pool = {"decode_responses": True}
        configuration["OPTIONS"] = of_pool if backend == DJANGOS_OWN else {"CONNECTION_POOL_KWARGS": of_pool}
    return configuration


def memcached_options(name: str, url: str, **options: Any) -> dict[str, Any]:
    client = "PyLibMCCache" if name == "pylibmc" else "PyMemcacheCache"
    return {
        "BACKEND": f"django.core.cache.backends.memcached.{client}",
        "LOCATION": url,
        "OPTIONS": options,
    }


def cluster_options(url: str) -> dict[str, Any]:
    """Return the cache of a Redis Cluster, as docs/redis.md says."""
    return {
        "BACKEND": DJANGO_REDIS,
        "LOCATION": url,
        "OPTIONS": {"CONNECTION_FACTORY": "tests.project.cluster.ClusterFactory"},
    }


def use_cache(settings: SettingsWrapper, configuration: dict[str, Any]) -> Any:
    """Make `configuration` the cache that holds the claims, and return that cache."""
    settings.CACHES = {**settings.CACHES, "claims": configuration}
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "claims"
    return caches["claims"]


def fakeredis_options(location: str) -> dict[str, Any]:
    fakeredis = pytest.importorskip("fakeredis")
    pytest.importorskip("lupa", reason="fakeredis runs Lua scripts with lupa")
    connection_class = getattr(fakeredis, "FakeRedisConnection", None) or fakeredis.FakeConnection
    return {
        "BACKEND": DJANGO_REDIS,
        "LOCATION": f"redis://{location}:6379/0",
        "OPTIONS": {"CONNECTION_POOL_KWARGS": {"connection_class": connection_class}},
    }


def sqlite_settings(path: Path) -> dict[str, Any]:
    """Return the entry of DATABASES for a SQLite file; nothing waits for its disk."""
    return {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous = OFF"},
    }


@contextlib.contextmanager
def extra_database(alias: str, entry: dict[str, Any]) -> Iterator[str]:
    """Add a database for a while, beside that of the tests; all threads see it."""
    connections.settings[alias] = entry
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@contextlib.contextmanager
def default_database(entry: dict[str, Any]) -> Iterator[None]:
    """Make another database the default one for a while, in all threads that have not used it yet."""
    before, entry_before = connections["default"], connections.settings["default"]
    connections.settings["default"] = entry
    connections["default"] = load_backend(entry["ENGINE"]).DatabaseWrapper(entry, "default")
    try:
        yield
    finally:
        close_for_good("default")
        connections.settings["default"] = entry_before
        connections["default"] = before


def close_for_good(alias: str) -> None:
    """Close this thread's connection, also to a database in memory, which Django keeps open."""
    BaseDatabaseWrapper.close(connections[alias])


class ClaimsRouter:
    """Sends the cache table to the database `claims`."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "claims" if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return True if db == "claims" else None


@contextlib.contextmanager
def database_cache(settings: SettingsWrapper, entry: dict[str, Any]) -> Iterator[Any]:
    """Keep the claims in a table of that database (an entry of DATABASES)."""
    settings.DATABASE_ROUTERS = ["tests.unit.stores.ClaimsRouter"]
    with extra_database("claims", entry) as alias:
        cache = use_cache(settings, {"BACKEND": DATABASE, "LOCATION": "claims_table"})
        call_command("createcachetable", database=alias)
        cache.clear()
        yield cache


def database_settings(name: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the entry of DATABASES for a database of `DATABASES`, with its real server."""
    if name == "sqlite":
        return sqlite_settings(request.getfixturevalue("tmp_path") / "claims.sqlite3")
    entry: dict[str, Any] = request.getfixturevalue("postgresql_server").settings(
        connections.settings["default"]
    )
    return entry


@contextlib.contextmanager
def opened_cache(name: str, request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Any]:
    """Open the cache of the store of that name, empty."""
    with contextlib.ExitStack() as stack:
        if name in REDIS:
            server: RedisServer = request.getfixturevalue(ON_REDIS[name][1])
            server.flush()
            yield use_cache(settings, redis_options(name, server.url))
        elif name == CLUSTER:
            cluster = request.getfixturevalue("redis_cluster")
            cluster.flush()
            yield use_cache(settings, cluster_options(cluster.url))
        elif name == "fakeredis":
            cache = use_cache(settings, fakeredis_options(f"h{abs(hash(request.node.nodeid))}"))
            yield cache
            cache.clear()
        elif name in ("memcached", "pylibmc"):
            if name == "pylibmc":
                pytest.importorskip("pylibmc", reason=NO_PYLIBMC)
            memcached = request.getfixturevalue("memcached_server")
            memcached.flush()
            yield use_cache(settings, memcached_options(name, memcached.url))
        elif name in DATABASES:
            stack.enter_context(request.getfixturevalue("django_db_blocker").unblock())
            yield stack.enter_context(database_cache(settings, database_settings(name, request)))
        else:
            backend = "django.core.cache.backends.locmem.LocMemCache"
            cache = use_cache(settings, {"BACKEND": backend, "LOCATION": request.node.nodeid})
            yield cache
            cache.clear()


@contextlib.contextmanager
def opened(name: str, request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    """Open the store of claims of that name, empty."""
    with opened_cache(name, request, settings) as cache:
        yield Backend(
            name=name,
            store=claim_store(eager=True),
            cache=cache,
            shortest=0.05 if name in (*REDIS, CLUSTER, "fakeredis") else 1.0,
            server=request.getfixturevalue(ON_REDIS[name][1]) if name in REDIS else None,
        )
