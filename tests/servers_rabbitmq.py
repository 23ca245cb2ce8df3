"""RabbitMQ for the tests: one node of its own, without Erlang's name server (epmd) and without plugins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    import kombu

# What Debian has on PATH (of root) is a wrapper that changes to the user rabbitmq; this is what it starts.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# No node talks to another: nothing listens for them, and epmd, a daemon that would outlive us, isn't started.
ALONE = "-dist_listen false -start_epmd false -erl_epmd_port 1"
CONFIGURATION = """
listeners.tcp.1 = {host}:{port}
log.console = true
log.console.level = info
disk_free_limit.absolute = 1MB
raft.wal_max_size_bytes = 1048576
"""


class RabbitMQServer(Server):
    """A RabbitMQ server of its own; needs some five seconds to start. Lines of rabbitmq.conf may be given.

    What was published to a durable queue survives `kill` and `restart`.
    """

    program = "rabbitmq-server"
    package = "rabbitmq-server"
    start_timeout = 60.0

    def __init__(self, *configuration: str) -> None:
        super().__init__()
        self.configuration = configuration

    @classmethod
    def find(cls) -> str | None:
        return str(PROGRAM) if PROGRAM.exists() else super().find()

    def command(self) -> list[str]:
        lines = [CONFIGURATION.format(host=HOST, port=self.port), *self.configuration]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.directory / "enabled_plugins").write_text("[].\n")
        return [self.binary]

    def environment(self) -> Mapping[str, str]:
        node = f"dce{self.port}@localhost"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": str(self.directory),  # of Erlang's cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node, instead of waiting for it
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "ERL_AFLAGS": ALONE,  # of this node, and of an "erl" that it starts to have an epmd
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-sname {node} +S 2:2 +SDio 2",
        }

    def answers(self) -> bool:
        # A client that speaks another protocol is told which one is spoken here.
        return self._ask(b"HELLO\r\n\r\n").startswith(b"AMQP")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def stop(self) -> None:
        """End the server and remove its directory. Nothing is worth the seconds of an end in order."""
        self.kill()
        super().stop()

    def connection(self) -> kombu.Connection:
        """Return a new connection, which the caller closes."""
        import kombu

        return kombu.Connection(self.url)

    def connections(self) -> int:
        """Return how many connections were opened since the server started, as it logged them."""
        return self.log().count("accepting AMQP connection")
