"""The locks that are compared: each takes and gives back the same name in its own way."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

#: Seconds that a lock lasts, of every contender that asks for it.
LASTS = 15
NAME = "benchmark"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where the contenders find their servers; ZooKeeper may be missing."""

    redis: str
    zookeeper: str | None


class Contender:
    """One way to hold a lock."""

    title: str
    #: Distributions whose versions the report names.
    packages: tuple[str, ...] = ()
    #: It can wait.
    waits = True
    needs_zookeeper = False

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    def missing(self) -> str | None:
        """Say why it can't take part, None where it can."""
        if self.needs_zookeeper and self.servers.zookeeper is None:
            return "no ZooKeeper on this machine (Debian package: zookeeper)"
        gone = [package for package in self.packages if not any(distributions(name=package))]
        return f"{', '.join(gone)} is not installed" if gone else None

    def begin(self) -> None:
        """Be the one whose turn it is."""

    def close(self) -> None:
        """Leave its server before that ends."""

    def held(self) -> AbstractContextManager[Any]:
        """Hold the lock, waiting for it where it is not free."""
        raise NotImplementedError

    @property
    def renewed(self) -> str:
        """How it is kept alive while it is held."""
        return ""


class _OnRedis(Contender):
    packages = ("redis",)

    @cached_property
    def client(self) -> Any:
        return import_module("redis").Redis.from_url(self.servers.redis)


class Evalsha(_OnRedis):
    """The floor: two calls of a script that does nothing."""

    title = "two EVALSHA of `return 1` (the floor)"
    waits = False

    @cached_property
    def _sha(self) -> str:
        return str(self.client.script_load("return 1"))

    @contextmanager
    def held(self) -> Iterator[None]:
        self.client.evalsha(self._sha, 0)
        yield
        self.client.evalsha(self._sha, 0)


class OurScripts(_OnRedis):
    """Our two scripts and nothing around them."""

    title = "two EVALSHA of our scripts, nothing around"
    waits = False

    @cached_property
    def _calls(self) -> Callable[[str], tuple[Any, Any]]:
        from django_celery_extensions.stores import redis_leases as ours

        keys = ours._keys("lock:raw", str)

        take, end = (self.client.script_load(script.text) for script in (ours._TAKE, ours._END))

        def calls(token: str) -> tuple[Any, Any]:
            return (
                partial(self.client.evalsha, take, 4, *keys[:4], token, LASTS * 1000, 1, "host:1", ""),
                partial(self.client.evalsha, end, 5, *keys, token, 10000, ""),
            )

        return calls

    @contextmanager
    def held(self) -> Iterator[None]:
        take, end = self._calls(uuid4().hex)
        take()
        yield
        end()


class _Ours(Contender):
    store: str

    def begin(self) -> None:
        from django.conf import settings

        settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = self.store

    def held(self) -> AbstractContextManager[Any]:
        from django_celery_extensions.locks import lock

        return lock(NAME, blocking=True)

    @property
    def renewed(self) -> str:
        return "yes"


class OursOnRedis(_Ours):
    """``locks.lock`` with a cache of django-redis."""

    title = "`locks.lock` on Redis"
    packages = ("django-redis", "redis")
    store = "cache"


class OursOnZooKeeper(_Ours):
    """``locks.lock`` with ``LOCK_STORE = "zookeeper"``."""

    title = "`locks.lock` on ZooKeeper"
    packages = ("kazoo",)
    store = "zookeeper"
    needs_zookeeper = True

    def close(self) -> None:
        from django_celery_extensions.stores import zookeeper_session

        zookeeper_session.close()


class RedisPy(_OnRedis):
    """redis-py's own."""

    title = "redis-py `Lock` (polls each 0.1 s)"

    def held(self) -> AbstractContextManager[Any]:
        return self.client.lock(NAME + " redis-py", timeout=LASTS)  # type: ignore[no-any-return]

    @property
    def renewed(self) -> str:
        return "no"


class PythonRedisLock(_OnRedis):
    """python-redis-lock as it comes."""

    title = "python-redis-lock `Lock`"
    packages = ("python-redis-lock", "redis")
    renews = False

    def held(self) -> AbstractContextManager[Any]:
        lock = import_module("redis_lock").Lock
        return lock(self.client, self.title, expire=LASTS, auto_renewal=self.renews)  # type: ignore[no-any-return]

    @property
    def renewed(self) -> str:
        return "yes" if self.renews else "no"


class PythonRedisLockRenewed(PythonRedisLock):
    """python-redis-lock with a thread that renews, as ours are."""

    title = "python-redis-lock `Lock(auto_renewal=True)`"
    renews = True


class Kazoo(Contender):
    """kazoo's recipe."""

    title = "kazoo `Lock`"
    packages = ("kazoo",)
    needs_zookeeper = True

    @cached_property
    def _client(self) -> Any:
        client = import_module("kazoo.client").KazooClient(self.servers.zookeeper, timeout=LASTS)
        client.start()
        return client

    def close(self) -> None:
        self._client.stop()
        self._client.close()

    def held(self) -> AbstractContextManager[Any]:
        return self._client.Lock("/benchmark-kazoo")  # type: ignore[no-any-return]

    @property
    def renewed(self) -> str:
        return "yes"


CONTENDERS: tuple[type[Contender], ...] = (
    Evalsha,
    OurScripts,
    OursOnRedis,
    RedisPy,
    PythonRedisLock,
    PythonRedisLockRenewed,
    OursOnZooKeeper,
    Kazoo,
)


def set_up(servers: Servers) -> None:
    """Make this process a Django project with a Celery app."""
    import django
    from celery import Celery
    from django.conf import settings

    settings.configure(
        CACHES={
            "default": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": servers.redis,
                "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
            }
        },
        INSTALLED_APPS=["django_celery_extensions"],
        DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT=LASTS,
        DJANGO_CELERY_EXTENSIONS_LOCK_STORE="cache",
        USE_TZ=True,
    )
    app = Celery("benchmarks", set_as_current=True)
    app.conf.zookeeper_hosts = servers.zookeeper or ""
    django.setup()
