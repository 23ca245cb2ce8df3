"""Fixtures on real servers and real workers.

A server that is not installed skips what needs it, except in CI, where it fails.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from tests.live import Live, keep_configuration, point_app_at
from tests.processes import ROOT
from tests.servers import MemcachedServer, RedisServer, Server, ServerMissing, ValkeyServer
from tests.servers_postgresql import PostgreSQLServer
from tests.servers_rabbitmq import RabbitMQServer
from tests.servers_redis import RedisClusterServers
from tests.servers_zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.workers import Pool, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis as redis_py
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore

T = TypeVar("T")


class MakeServer(Protocol):
    """Starts a server for one test: `make_server(RedisServer, "--maxmemory", "10mb")`."""

    def __call__(self, server_class: type[Server], *arguments: str) -> Any: ...


class MakeWorker(Protocol):
    """Starts a worker for one test, with the arguments of `tests.workers.Worker`; `wait=False` returns at once."""

    def __call__(self, *, pool: Pool = "prefork", wait: bool = True, **options: Any) -> Worker: ...


def start(server_class: type[Server], *arguments: str) -> Any:
    """Start a server, or skip the test (fail it in CI) where the program is missing."""
    return unless_missing(lambda: server_class(*arguments).start())


def unless_missing(make: Callable[[], T]) -> T:
    """Make something of servers, or skip the test (fail it in CI) where a program is missing."""
    try:
        return make()
    except ServerMissing as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(str(exc))
        pytest.skip(str(exc))


@pytest.fixture(autouse=True)
def unchanged_configuration() -> Iterator[None]:
    """What a test sets on `app.conf` ends with the test."""
    from tests.project.celery import app

    yield from keep_configuration(app)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The broker and result backend of the session: a real redis-server. Don't kill it, use `make_server`."""
    with start(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def store_server() -> Iterator[RedisServer]:
    """The redis-server of the session that carries only caches (claims, windows, leases)."""
    with start(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A real valkey-server of the session."""
    with start(ValkeyServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """A real PostgreSQL of the session."""
    with start(PostgreSQLServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisClusterServers]:
    """A Redis Cluster of the session: three masters, real processes."""
    with unless_missing(RedisClusterServers) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    """A real memcached of the session."""
    with start(MemcachedServer) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def sockets_of_pyamqp() -> Iterator[None]:
    """py-amqp leaves the sockets of connections that were reset to the garbage collector: not in another module's test."""
    yield
    if "kombu.transport.pyamqp" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """A RabbitMQ server of the session. Don't kill it, use `make_server(RabbitMQServer)`."""
    with start(RabbitMQServer) as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    """A ZooKeeper server of the session. Don't kill it, use `make_server(ZooKeeperServer)`."""
    with start(ZooKeeperServer) as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_members() -> Iterator[ZooKeeperEnsemble]:
    """Where `zookeeper_ensemble` keeps its servers between tests."""
    with unless_missing(ZooKeeperEnsemble) as ensemble:
        yield ensemble


@pytest.fixture
def zookeeper_ensemble(zookeeper_members: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    """Three ZooKeeper servers that a test may kill, freeze and restart: all serve again for the next one."""
    zookeeper_members.heal()
    yield zookeeper_members
    zookeeper_members.heal()


@pytest.fixture
def use_zookeeper(settings: SettingsWrapper) -> Iterator[Callable[[str], None]]:
    """Points locks at ZooKeeper servers (their hosts), for a session of this test's own."""
    from django_celery_extensions.stores import zookeeper_session

    def use(hosts: str) -> None:
        zookeeper_session.close()
        settings.CELERY_ZOOKEEPER_HOSTS = hosts
        settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = "zookeeper"

    yield use
    zookeeper_session.close()


@pytest.fixture
def zookeeper_store(zookeeper_server: ZooKeeperServer, use_zookeeper: Callable[[str], None]) -> LeaseStore:
    """The store of leases on `zookeeper_server`, where nobody holds anything."""
    from django_celery_extensions.stores import lease_store

    use_zookeeper(zookeeper_server.url)
    return lease_store()


@pytest.fixture
def redis(store_server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client of the emptied `store_server`."""
    store_server.flush()
    with store_server.client() as client:
        yield client


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """A maker of servers of this test's own, which it may kill, freeze and restart."""
    servers: list[Server] = []

    def make(server_class: type[Server], *arguments: str) -> Server:
        server: Server = start(server_class, *arguments)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.thaw()
        server.stop()


@pytest.fixture(scope="session")
def worker_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of the worker subprocesses, migrated."""
    path = tmp_path_factory.mktemp("database") / "workers.sqlite3"
    env = {**os.environ, "TEST_DATABASE": str(path), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--skip-checks"]
    subprocess.run(command, env=env, cwd=ROOT, check=True, timeout=60)
    return path


@pytest.fixture
def live_app(
    redis_server: RedisServer, store_server: RedisServer, worker_database: Path, settings: SettingsWrapper
) -> Iterator[Live]:
    """The app of `tests.project` in this process as a client of real, emptied servers."""
    from tests.project.celery import app

    yield from point_app_at(
        Live(
            app=app,
            broker=redis_server,
            store=store_server,
            worker_database=worker_database,
            settings=settings,
        )
    )


@pytest.fixture
def make_worker(live_app: Live) -> Iterator[MakeWorker]:
    """A maker of workers on the servers of `live_app`; they end with the test."""
    workers: list[Worker] = []

    def make(*, pool: Pool = "prefork", wait: bool = True, **options: Any) -> Worker:
        options["env"] = {**live_app.env, **options.get("env", {})}
        worker = Worker(pool=pool, **options)
        workers.append(worker)
        return worker.ready() if wait else worker

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    """A prefork worker with two processes, ready, for this test alone: it may kill and freeze it."""
    return make_worker()


@contextmanager
def ending() -> Iterator[list[Worker]]:
    """A list of workers, which end with it."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.close()


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """Where a module keeps a worker of its own between its tests."""
    with ending() as workers:
        yield workers


@pytest.fixture(scope="session")
def long_lived_workers() -> Iterator[list[Worker]]:
    """Where `shared_worker` keeps its worker between tests."""
    with ending() as workers:
        yield workers


@pytest.fixture
def shared_worker(live_app: Live, long_lived_workers: list[Worker]) -> Worker:
    """A prefork worker with four processes that all tests share: no waiting for its start, and no harming it.

    It works on databases of its own, at which `live_app` points then. Its tasks must have ended with the test.
    """
    live_app.use(broker_database=2, result_database=3)
    if not long_lived_workers or not long_lived_workers[-1].alive:
        long_lived_workers.append(Worker(concurrency=4, env=live_app.env).ready())
    return long_lived_workers[-1]
