"""A real PostgreSQL server for the tests, on a free loopback port, gone when the tests are."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.processes import children_of
from tests.servers import HOST, Server, ServerMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

#: Where Debian keeps the programs of the server, by version; they are not on PATH.
DEBIAN = Path("/usr/lib/postgresql")
#: Durability costs time, and these tests cut no power.
FAST = {"fsync": "off", "full_page_writes": "off"}
ROLE = DATABASE = "postgres"


class PostgreSQLServer(Server):
    """PostgreSQL with an empty cluster of its own. It refuses to run as root, so root runs it as the user `postgres`."""

    program = "postgres"
    package = "postgresql"
    #: What Debian's package makes.
    system_user: ClassVar[str] = "postgres"

    def __init__(self, *arguments: str) -> None:
        if importlib.util.find_spec("psycopg") is None:
            msg = "psycopg is not installed, with which the tests ask PostgreSQL"
            raise ServerMissing(msg)
        super().__init__(*arguments)
        self.data = self.directory / "data"
        if os.geteuid() == 0:
            self.user = self.system_user
            shutil.chown(self.directory, self.user)
        self._make_cluster()

    @classmethod
    def find(cls) -> str | None:
        newest_first = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
        path = os.pathsep.join([*map(str, newest_first), os.environ.get("PATH", os.defpath)])
        return shutil.which(cls.program, path=path)

    def _make_cluster(self) -> None:
        initdb = Path(self.binary).resolve().with_name("initdb")
        command = [initdb, "-D", self.data, "-U", ROLE, "-A", "trust", "-E", "UTF8"]
        command += ["--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(
            command,
            user=self.user or None,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if made.returncode:
            msg = f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}"
            raise RuntimeError(msg)

    def command(self) -> list[str]:
        options = {
            **FAST,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "16MB",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.binary, "-D", str(self.data), "-p", str(self.port), *words]

    def answers(self) -> bool:
        import psycopg

        try:
            self.client(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@{HOST}:{self.port}/{DATABASE}"

    def client(self, **options: Any) -> psycopg.Connection[Any]:
        """Return a new connection in autocommit, which the caller closes."""
        import psycopg

        return psycopg.connect(self.url, autocommit=True, **options)

    def settings(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry of DATABASES, with what it does not say from *defaults* (another entry)."""
        return {
            **defaults,
            "ENGINE": "django.db.backends.postgresql",
            "NAME": DATABASE,
            "USER": ROLE,
            "PASSWORD": "",
            "HOST": HOST,
            "PORT": str(self.port),
            "OPTIONS": {},
        }

    def cut_connections(self) -> None:
        """End every connection but the one that asks, as an administrator or a failover does."""
        with self.client() as client:
            client.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def kill(self) -> None:
        # Its processes have sessions of their own: one that serves a connection may answer once more before it sees
        # that its parent is gone.
        others = children_of(self.pid) if self.alive else []
        super().kill()
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server in order and remove its directory; by SIGTERM it would wait for its clients."""
        if self._process is not None:
            self._process.stop(by=signal.SIGINT)
        super().stop()
