"""Every store of claims that the contract suite runs against, with its real server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections

from django_celery_extensions.stores import claim_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.base import ClaimStore
    from tests.servers import RedisServer

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGOS_OWN = "django.core.cache.backends.redis.RedisCache"

#: Names of the stores; those on a real Redis first.
REDIS = ("django-redis", "django-redis decoded", "django's redis", "django's redis decoded")
OTHERS = ("fakeredis", "memcached", "database", "locmem")


@dataclass(kw_only=True)
class Backend:
    """A store, and what the suite has to know about it."""

    name: str
    store: ClaimStore
    cache: Any
    #: Seconds of the shortest life that it can give.
    shortest: float

    @contextlib.contextmanager
    def of_this_thread(self) -> Iterator[ClaimStore]:
        """Yield the store as a thread gets it, and close what the thread opened (the cache, the database)."""
        try:
            yield claim_store(eager=True)
        finally:
            caches.close_all()
            if self.name == "database":
                connections.close_all()


def redis_options(name: str, url: str) -> dict[str, Any]:
    decoded = name.endswith("decoded")
    if name.startswith("django-redis"):
        options = {"CONNECTION_POOL_KWARGS": {"decode_responses": True}} if decoded else {}
        return {"BACKEND": DJANGO_REDIS, "LOCATION": url, "OPTIONS": options}
    return {
        "BACKEND": DJANGOS_OWN,
        "LOCATION": url,
        "OPTIONS": {"decode_responses": True} if decoded else {},
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


@contextlib.contextmanager
def database_of_its_own(path: Path) -> Iterator[str]:
    """Yield the alias of a SQLite file: threads see one database, and the tests' own is left alone."""
    alias = "claims"
    connections.settings[alias] = {**connections.settings["default"], "NAME": str(path)}
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


class ClaimsRouter:
    """Sends the cache table to the database of `database_of_its_own`."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "claims" if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return True if db == "claims" else None


@contextlib.contextmanager
def database_cache(settings: SettingsWrapper, path: Path) -> Iterator[Any]:
    settings.DATABASE_ROUTERS = ["tests.unit.stores.ClaimsRouter"]
    with database_of_its_own(path) as alias:
        cache = use_cache(
            settings,
            {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "claims_table"},
        )
        call_command("createcachetable", database=alias)
        yield cache


@contextlib.contextmanager
def opened(name: str, request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[Backend]:
    """Open the store of that name, empty."""
    with contextlib.ExitStack() as stack:
        if name in REDIS:
            server: RedisServer = request.getfixturevalue("store_server")
            server.flush()
            cache = use_cache(settings, redis_options(name, server.url))
        elif name == "fakeredis":
            cache = use_cache(settings, fakeredis_options(f"h{abs(hash(request.node.nodeid))}"))
        elif name == "memcached":
            server_ = request.getfixturevalue("memcached_server")
            server_.flush()
            backend = "django.core.cache.backends.memcached.PyMemcacheCache"
            cache = use_cache(settings, {"BACKEND": backend, "LOCATION": server_.url})
        elif name == "database":
            stack.enter_context(request.getfixturevalue("django_db_blocker").unblock())
            path = request.getfixturevalue("tmp_path") / "claims.sqlite3"
            cache = stack.enter_context(database_cache(settings, path))
        else:
            backend = "django.core.cache.backends.locmem.LocMemCache"
            cache = use_cache(settings, {"BACKEND": backend, "LOCATION": request.node.nodeid})
        yield Backend(
            name=name,
            store=claim_store(eager=True),
            cache=cache,
            shortest=0.05 if name in (*REDIS, "fakeredis") else 1.0,
        )
        cache.clear()
