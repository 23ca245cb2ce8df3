"""The servers of the matrix, and what a cell is told of them."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from importlib import metadata
from typing import TYPE_CHECKING, Any

from tests.servers import HOST, ServerMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from typing_extensions import Self

    from tests.matrix.cells import Cell

CLUSTER_FACTORY = "tests.project.cluster.ClusterFactory"
SENTINEL_FACTORY = "django_redis.pool.SentinelConnectionFactory"

#: Kind of server -> the class that runs it. Imported when needed: some need a library.
SERVERS = {
    "redis": "tests.servers.RedisServer",
    "memcached": "tests.servers.MemcachedServer",
    "sentinel": "tests.servers_redis.Sentinels",
    "cluster": "tests.servers_redis.RedisClusterServers",
    "rabbitmq": "tests.servers_rabbitmq.RabbitMQServer",
    "sqs": "tests.servers_sqs.SQSServer",
    "postgresql": "tests.servers_postgresql.PostgreSQLServer",
    "valkey": "tests.servers.ValkeyServer",
}
#: Kind of server -> what asks it for its version.
VERSIONS: dict[str, Callable[[Any], str]] = {
    "redis": lambda server: server.client().info("server")["redis_version"],
    "memcached": lambda server: server._ask(b"version\r\n").decode().split()[1],
    "sentinel": lambda servers: (
        f"Redis {servers.master.client().info('server')['redis_version']}, 3 sentinels"
    ),
    "cluster": lambda servers: (
        f"Redis {servers.nodes[0].client().info('server')['redis_version']}, 3 masters"
    ),
    "rabbitmq": lambda server: server.connection().connect().server_properties["version"],
    "sqs": lambda server: f"moto {metadata.version('moto')}",
    "postgresql": lambda server: server.client().execute("SHOW server_version").fetchone()[0],
    "valkey": lambda server: server.client().info("server")["valkey_version"],
}
#: Each cell has databases of Redis of its own.
REDIS_DATABASES = 1024

#: What a value needs a server of.
NEEDS = {
    "redis": "redis",
    "django-redis": "redis",
    "django's redis": "redis",
    "rabbitmq": "rabbitmq",
    "rabbitmq quorum": "rabbitmq",
    "sqs": "sqs",
    "memcached": "memcached",
    "sentinel": "sentinel",
    "cluster": "cluster",
    "valkey": "valkey",
    "postgresql": "postgresql",
}
#: What a value can't do: (what, why).
LACKS = {
    "none": {"results": "no result backend"},
    "rpc": {"chords": "RPC has no chords"},
    "sqs": {"remote control": "SQS has no remote control"},
    "sqlalchemy": {"remote control": "SQLAlchemy has no remote control"},
}


def needs(cell: Cell) -> set[str]:
    """Return the kinds of server that a cell needs."""
    return {NEEDS[value] for value in (cell.broker, cell.backend, cell.cache) if value in NEEDS}


class Servers:
    """The servers of a run, each started once. `missing` says why one can't be."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = sorted(set(kinds))
        self.missing: dict[str, str] = {}
        self._running: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for kind in self.kinds:
                self._start(kind, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _start(self, kind: str, stack: ExitStack) -> None:
        module, _, name = SERVERS[kind].rpartition(".")
        arguments = ("--databases", str(REDIS_DATABASES)) if kind == "redis" else ()
        try:
            server = getattr(importlib.import_module(module), name)(*arguments)
            self._running[kind] = stack.enter_context(server)
        except (ServerMissing, ImportError) as exc:
            self.missing[kind] = str(exc)

    def __getitem__(self, kind: str) -> Any:
        return self._running[kind]

    def versions(self) -> dict[str, str]:
        """Return the versions of the servers that run."""
        return {kind: VERSIONS[kind](server) for kind, server in self._running.items()}

    def gap(self, cell: Cell) -> str | None:
        """Tell what a cell misses, if it does."""
        return "; ".join(self.missing[kind] for kind in sorted(needs(cell)) if kind in self.missing) or None


def place(cell: Cell, number: int, servers: Servers, folder: Path) -> dict[str, Any]:
    """Return what `tests.matrix.settings` makes settings of: the *number*-th cell has its own part of each server."""
    name = f"cell-{number}"
    settings: dict[str, Any] = {"celery_task_default_queue": name}
    made: dict[str, Any] = {
        "pool": cell.pool,
        "folder": str(folder),
        "apps": [],
        "settings": settings,
        "database": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "database.sqlite3"),
            # django-celery-results counts a chord's parts by reading and then writing: in transactions that begin as
            # readers, one of two at once would be refused without waiting.
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        },
        "lacks": {**LACKS.get(cell.broker, {}), **LACKS.get(cell.backend, {})},
    }
    settings.update(BROKERS[cell.broker](servers, number, folder))
    settings.update(BACKENDS[cell.backend](servers, number, folder))
    if cell.backend == "django-db":
        made["apps"].append("django_celery_results")
    if cell.cache == "postgresql":
        made["database"] = servers["postgresql"].settings({})
        made["database"]["NAME"] = new_database(servers["postgresql"], name.replace("-", "_"))
    if cell.cache == "sentinel":
        settings["django_redis_connection_factory"] = SENTINEL_FACTORY
    made["cache"] = {**CACHES[cell.cache](servers, number), "KEY_PREFIX": name}
    return made


def new_database(server: Any, name: str) -> str:
    with server.client() as client:
        client.execute(f"CREATE DATABASE {name}")
    return name


# Brokers and result backends: (servers, number of the cell, its folder) -> settings.


def redis_broker(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_broker_url": servers["redis"].database(3 * number)}


def rabbitmq(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_broker_url": servers["rabbitmq"].url}


def rabbitmq_quorum(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {
        "celery_broker_url": servers["rabbitmq"].url,
        "celery_task_default_queue_type": "quorum",
        # With a direct exchange a worker would hold what has a countdown, beyond its prefetch count.
        "celery_task_default_exchange_type": "topic",
        "celery_broker_transport_options": {"confirm_publish": True},
    }


def sqs(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    server = servers["sqs"]
    return {
        "celery_broker_url": server.url,
        "celery_broker_transport_options": dict(server.transport_options),
        "celery_task_default_queue": f"cell-{number}.fifo",
        "celery_worker_enable_remote_control": False,
        "django_celery_extensions_auto_sqs_message_group_id": True,
    }


def sqlalchemy(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_broker_url": f"sqla+sqlite:///{folder / 'broker.sqlite3'}"}


def redis_backend(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_result_backend": servers["redis"].database(3 * number + 1)}


def rpc(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_result_backend": "rpc://"}


def django_db(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_result_backend": "django-db"}


def memcached_backend(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {"celery_result_backend": f"cache+memcached://{servers['memcached'].url}/"}


def no_backend(servers: Servers, number: int, folder: Path) -> dict[str, Any]:
    return {}


BROKERS: dict[str, Callable[[Servers, int, Path], dict[str, Any]]] = {
    "redis": redis_broker,
    "rabbitmq": rabbitmq,
    "rabbitmq quorum": rabbitmq_quorum,
    "sqs": sqs,
    "sqlalchemy": sqlalchemy,
}
BACKENDS: dict[str, Callable[[Servers, int, Path], dict[str, Any]]] = {
    "redis": redis_backend,
    "rpc": rpc,
    "django-db": django_db,
    "memcached": memcached_backend,
    "none": no_backend,
}

# Caches: (servers, number of the cell) -> the entry of CACHES.


def django_redis(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": servers["redis"].database(3 * number + 2),
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
    }


def djangos_redis(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": servers["redis"].database(3 * number + 2),
    }


def sentinel(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://main/0",
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "SENTINELS": servers["sentinel"].addresses,
        },
    }


def cluster(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": servers["cluster"].url,
        "OPTIONS": {"CONNECTION_FACTORY": CLUSTER_FACTORY},
    }


def valkey(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django_valkey.cache.ValkeyCache",
        "LOCATION": f"valkey://{HOST}:{servers['valkey'].port}/0",
    }


def memcached(servers: Servers, number: int) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": servers["memcached"].url,
    }


def database(servers: Servers, number: int) -> dict[str, Any]:
    return {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache_table"}


CACHES: dict[str, Callable[[Servers, int], dict[str, Any]]] = {
    "django-redis": django_redis,
    "django's redis": djangos_redis,
    "sentinel": sentinel,
    "cluster": cluster,
    "valkey": valkey,
    "memcached": memcached,
    "postgresql": database,
    "sqlite": database,
}
