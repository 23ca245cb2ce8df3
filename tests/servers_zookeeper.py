"""ZooKeeper for the tests, run from Debian's jars: one server, and an ensemble of three."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.processes import Process
from tests.servers import HOST, Server, ServerMissing, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

JAVA = Path("/usr/share/java")
JAR = JAVA / "zookeeper.jar"  # its manifest names the jars that it needs, but for these (logs, TLS)
MORE_JARS = [JAVA / f"{name}.jar" for name in ("slf4j-simple", "netty-codec", "netty-resolver")]
#: Seconds of a tick. A session lasts at least two, and its end is told at the end of one.
TICK = 0.25
START_TIMEOUT = 40.0


class ZooKeeperServer(Server):
    """A ZooKeeper server of its own. Lines of its configuration may be given: `ZooKeeperServer("tickTime=1000")`."""

    program = "java"
    package = "zookeeper"

    def __init__(self, *configuration: str) -> None:
        if not JAR.exists():
            msg = f"{JAR} is not there (Debian package: {self.package})"
            raise ServerMissing(msg)
        super().__init__()
        self.configuration = configuration
        self.properties: dict[str, str] = {}

    def settings(self) -> Mapping[str, Any]:
        return {
            "dataDir": self.directory / "data",
            "clientPort": self.port,
            "clientPortAddress": HOST,
            "tickTime": round(TICK * 1000),
            "maxSessionTimeout": 60_000,
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        }

    def command(self) -> list[str]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        lines = [*(f"{name}={value}" for name, value in self.settings().items()), *self.configuration]
        (self.directory / "zoo.cfg").write_text("\n".join(lines) + "\n")
        properties = {
            "zookeeper.forceSync": "no",  # a kill loses nothing that the system has
            "zookeeper.preAllocSize": "256",
            "org.slf4j.simpleLogger.defaultLogLevel": "warn",
            **self.properties,
        }
        return [
            self.binary,
            "-Xmx96m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-cp",
            ":".join(map(str, (JAR, *MORE_JARS))),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.directory / "zoo.cfg"),
        ]

    def launch(self) -> None:
        """Start it on its port, and don't wait for it."""
        self.kill()
        self._process = Process(self.command(), log=self.directory / "log")

    def freeze(self) -> None:
        """Stop it, and wait until it has stopped: a thread of it may be in the middle of an answer."""
        super().freeze()
        tasks = Path(f"/proc/{self.pid}/task")
        if self.alive and tasks.exists():
            wait_until(lambda: all(_is_stopped(task) for task in tasks.iterdir()), what="it has stopped")

    def answers(self) -> bool:
        return self.mode() is not None

    def mode(self) -> str | None:
        """Return "standalone", "leader" or "follower"; None while it serves nobody."""
        with contextlib.suppress(OSError):
            for line in self.word("srvr").splitlines():
                if line.startswith("Mode: "):
                    return line.removeprefix("Mode: ")
        return None

    def word(self, command: str) -> str:
        """Return the answer to one of ZooKeeper's four-letter words."""
        return self._ask(command.encode()).decode(errors="replace")

    def ephemerals(self) -> dict[str, list[str]]:
        """Return the paths of the ephemeral nodes, by the session that they belong to (`dump`)."""
        found: dict[str, list[str]] = {}
        session = ""
        for line in self.word("dump").splitlines():
            if line.startswith("0x") and line.endswith(":"):
                session = line.removeprefix("0x").rstrip(":")
                found.setdefault(session, [])
            elif line.startswith("\t/") and session:
                found[session].append(line.strip())
        return {name: paths for name, paths in found.items() if paths}

    @property
    def url(self) -> str:
        return f"{HOST}:{self.port}"


def _is_stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


class _Member(ZooKeeperServer):
    """One server of an ensemble."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.ports = free_port(), free_port()
        self.members: list[_Member] = []

    def settings(self) -> Mapping[str, Any]:
        others = {
            f"server.{member.number}": f"{HOST}:{member.ports[0]}:{member.ports[1]}"
            for member in self.members
        }
        return {**super().settings(), "initLimit": 40, "syncLimit": 8, **others}

    def command(self) -> list[str]:
        command = super().command()
        (self.directory / "data" / "myid").write_text(str(self.number))
        return command


class ZooKeeperEnsemble:
    """Three servers that elect a leader. `heal` brings back what a test has killed or frozen."""

    def __init__(self, size: int = 3) -> None:
        self.members = [_Member(number) for number in range(1, size + 1)]
        for member in self.members:
            member.members = self.members

    @property
    def hosts(self) -> str:
        """The servers as `ZOOKEEPER_HOSTS` takes them."""
        return ",".join(member.url for member in self.members)

    @property
    def leader(self) -> ZooKeeperServer:
        return next(member for member in self.members if member.mode() == "leader")

    @property
    def followers(self) -> list[_Member]:
        return [member for member in self.members if member.mode() == "follower"]

    def start(self) -> Self:
        for member in self.members:
            member.launch()
        self.ready()
        return self

    def ready(self, size: int | None = None) -> None:
        """Wait until so many members (all of them, if none is given) serve clients, one of them as the leader."""
        wanted = len(self.members) if size is None else size
        wait_until(
            lambda: self._serve(wanted),
            timeout=START_TIMEOUT,
            what=lambda: "the ensemble serves; its logs:\n" + "\n".join(m.log() for m in self.members),
            interval=0.05,
        )

    def _serve(self, wanted: int) -> bool:
        modes = [member.mode() for member in self.members if member.alive]
        return modes.count("leader") == 1 and len(modes) - modes.count(None) >= wanted

    def heal(self) -> None:
        """Thaw and restart what needs it, and wait until all serve."""
        for member in self.members:
            member.thaw()
            if not member.alive:
                member.launch()
        self.ready()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of the servers do anything."""
        for member in self.members:
            member.freeze()
        try:
            yield
        finally:
            for member in self.members:
                member.thaw()

    def stop(self) -> None:
        for member in self.members:
            member.thaw()
            member.kill()
            member.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
