"""Where the peers are measured: a Redis and a ZooKeeper of the run's own, and an agent for each peer."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.agents import Agent, AgentError, command_of, environment_of
from benchmarks.peers.base import Servers
from benchmarks.proxy import Network
from benchmarks.venvs import HOME, ROOT, NotInstalledError
from tests.processes import Process, tied_to_us
from tests.servers import HOST, RedisServer, ServerMissing
from tests.servers_zookeeper import ZooKeeperServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis
    from typing_extensions import Self

    from benchmarks.peers.base import Peer

#: Databases of Redis: two for each peer.
DATABASES = 128


class Stage:
    """The servers of a run, and who takes part in it."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = list(peers)
        #: Versions of what agents run, by the name of their peer.
        self.versions: dict[str, dict[str, str]] = {}
        self.pythons: dict[str, str] = {}
        self._stack = ExitStack()
        self._databases: dict[int, redis.Redis] = {}
        self._zookeeper: ZooKeeperServer | None = None
        self._no_zookeeper = ""

    def __enter__(self) -> Self:
        self.server = self._stack.enter_context(RedisServer("--databases", str(DATABASES)))
        self.redis: redis.Redis = self._stack.enter_context(self.server.client())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def in_group(self, group: str) -> list[Peer]:
        """Return the peers that take part in a group of measures."""
        return [peer for peer in self.peers if group in peer.groups]

    def servers_of(self, peer: Peer, port: int | None = None) -> Servers:
        """Return the servers of a peer, reached through another port where one is given.

        Raises :class:`AgentError` where there is no ZooKeeper and it needs one.
        """
        number = 2 * self.peers.index(peer)
        url = f"redis://{HOST}:{port or self.server.port}"
        return Servers(
            broker=f"{url}/{number}",
            store=f"{url}/{number + 1}",
            zookeeper=self._zookeeper_url() if peer.zookeeper else None,
        )

    def _zookeeper_url(self) -> str:
        if self._no_zookeeper:
            raise AgentError(self._no_zookeeper)
        if self._zookeeper is None:
            try:
                self._zookeeper = self._stack.enter_context(ZooKeeperServer())
            except ServerMissing as exc:
                self._no_zookeeper = f"no ZooKeeper here: {exc}"
                raise AgentError(self._no_zookeeper) from exc
        return self._zookeeper.url

    def software(self) -> list[str]:
        """Return the servers that run, with their versions."""
        said: Any = self.redis.info("server")
        found = [f"Redis {said['redis_version']}"]
        if self._zookeeper is not None:
            # Zookeeper version: 3.8.0-1, built on …
            told = self._zookeeper.word("srvr").partition(":")[2].split()
            found.append(f"ZooKeeper {told[0].partition('-')[0]}" if told else "ZooKeeper")
        return found

    def flush(self, peer: Peer) -> None:
        """Empty the databases of a peer."""
        number = 2 * self.peers.index(peer)
        for database in (number, number + 1):
            client = self._databases.get(database)
            if client is None:
                client = self._databases[database] = self._stack.enter_context(self.server.client(database))
            client.flushdb()

    @contextmanager
    def agents(
        self, peers: Sequence[Peer], port: int | None = None
    ) -> Iterator[tuple[dict[str, Agent], dict[str, str]]]:
        """Start an agent for each of them; yields those that run, and the reasons of those that don't."""
        with ExitStack() as stack:
            started: dict[str, Agent] = {}
            gaps: dict[str, str] = {}
            for peer in peers:
                try:
                    started[peer.name] = stack.enter_context(Agent(peer, self.servers_of(peer, port)))
                except (NotInstalledError, AgentError) as exc:
                    gaps[peer.name] = str(exc)
            for name, agent in started.items():
                try:
                    agent.ready()
                except AgentError as exc:
                    gaps[name] = str(exc)
                else:
                    self.versions[name], self.pythons[name] = agent.versions, agent.python
            for name, reason in gaps.items():
                print(f"    {name}: {reason}", file=sys.stderr)
            yield {name: agent for name, agent in started.items() if name not in gaps}, gaps

    @contextmanager
    def worker(self, peer: Peer) -> Iterator[Process]:
        """Run a worker of a peer; raises what :meth:`agents` notes."""
        servers = self.servers_of(peer)
        log = HOME / "logs" / f"{peer.name}-worker.log"
        log.unlink(missing_ok=True)
        environment = environment_of(peer, servers)
        process = Process([*command_of(peer), "worker"], log=log, env=environment)
        try:
            yield process
        finally:
            process.kill()

    @contextmanager
    def network(self, delay: float) -> Iterator[Network]:
        """Put so many seconds, and a counter of round trips, between the agents and Redis, in this process."""
        with Network(self.server.port, delay) as network:
            yield network

    @contextmanager
    def proxy(self, delay: float) -> Iterator[int | None]:
        """Put so many seconds between them, in a process of its own, to be measured; yields the port that leads there (None: directly)."""
        if not delay:
            yield None
            return
        command = tied_to_us([sys.executable, "-m", "benchmarks.proxy", str(self.server.port), str(delay)])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            try:
                assert process.stdout is not None  # noqa: S101 - for mypy
                yield int(process.stdout.readline())
            finally:
                process.kill()
