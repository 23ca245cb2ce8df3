"""Redis servers in company: a cluster, and a master with a replica that sentinels watch."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import redis

from tests.servers import HOST, RedisServer, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

SLOTS = 16384


class RedisClusterServers:
    """Three masters that share the slots."""

    def __init__(self, nodes: int = 3) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = [
            RedisServer("--databases", "1", *options, "--cluster-port", str(free_port()))
            for _ in range(nodes)
        ]

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        share = SLOTS // len(self.nodes)
        for number, node in enumerate(self.nodes):
            last = SLOTS - 1 if number == len(self.nodes) - 1 else (number + 1) * share - 1
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
                first = self.nodes[0]
                client.execute_command("CLUSTER MEET", HOST, first.port, first.arguments[-1])
        for node in self.nodes:
            wait_until(lambda node=node: self._is_whole(node), what="the cluster is whole", timeout=20)
        return self

    def _is_whole(self, node: RedisServer) -> bool:
        with node.client(decode_responses=True) as client:
            info: Any = client.execute_command("CLUSTER INFO")
            text = info if isinstance(info, str) else "".join(f"{k}:{v}\r\n" for k, v in info.items())
            return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.nodes)}" in text

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.nodes[0].port}/0"

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class SentinelServer(RedisServer):
    """redis-server as a sentinel of one master that is called "main"."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self.master = master

    def command(self) -> list[str]:
        configuration = self.directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind {HOST}\ndir {self.directory}\n"
            f"sentinel monitor main {HOST} {self.master.port} 2\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        return [self.binary, str(configuration), "--sentinel"]


class Sentinels:
    """A master, its replica, and three sentinels that make the replica the master when the master is gone."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.master = RedisServer()
        self.replica = RedisServer()
        self.sentinels: list[SentinelServer] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.master)
            stack.enter_context(self.replica)
            with self.replica.client() as client:
                client.replicaof(HOST, str(self.master.port))
            wait_until(lambda: self._replicates(), timeout=20, what="the replica follows its master")  # noqa: PLW0108
            self.sentinels = [stack.enter_context(SentinelServer(self.master)) for _ in range(3)]
            for sentinel in self.sentinels:
                wait_until(lambda s=sentinel: self._knows_all(s), timeout=20, what="the sentinels met")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _replicates(self) -> bool:
        with self.replica.client() as client:
            info: Any = client.info("replication")
            return bool(info["master_link_status"] == "up")

    def _knows_all(self, sentinel: SentinelServer) -> bool:
        state = self._state(sentinel)
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1

    def _state(self, sentinel: SentinelServer) -> dict[str, Any]:
        with sentinel.client(decode_responses=True) as client:
            return dict(client.sentinel_master("main"))  # type: ignore[no-untyped-call]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    def has_moved(self) -> bool:
        """Tell whether the replica is the master now, for every sentinel that lives."""
        with contextlib.suppress(redis.RedisError):
            return all(int(self._state(each)["port"]) == self.replica.port for each in self.sentinels)
        return False
