"""A process of the tests with a ZooKeeper session of its own: it does what it is told, and may be killed for it.

`Member` is the side of the test; run as a program this is the other one, which reads a JSON list (a method of the
store below and its arguments) from each line of its input and answers with one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Member:
    """Another process: `member("take", "name", "token")`."""

    def __init__(self, hosts: str, *, timeout: float, gevent: bool = False) -> None:
        from tests.processes import ROOT, tied_to_us

        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.zookeeper_member", hosts]
        self._popen = subprocess.Popen(
            tied_to_us([*command, *(["gevent"] if gevent else [])]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "TEST_LOCK_TIMEOUT": str(timeout)},
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Have something done, and return its outcome. Raises RuntimeError for an error, naming its class."""
        self.begin(method, *arguments)
        return self.outcome()

    def begin(self, method: str, *arguments: Any) -> None:
        """Have something done, and don't wait for it."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._popen.stdin.flush()

    def outcome(self) -> Any:
        """Return the outcome of what was begun first."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            msg = f"the member ended with {self._popen.wait(10)}"
            raise RuntimeError(msg)
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._popen.wait(10)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> int:
        """Let it come to the end of its program, and return its exit status."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        return self._popen.wait(20)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


class Actor:
    """What a member can be told to do."""

    def __init__(self) -> None:
        from django_celery_extensions.stores import lease_store

        self._store = lease_store()
        self._held: dict[str, Any] = {}

    def take(self, name: str, token: str, most: int = 1, waits: bool = False) -> int | None:
        """Return the fence, None where it is held."""
        holding = self._store.take(self._ask(name, token, most, waits)).holding
        if holding is None:
            return None
        self._held[token] = holding
        return holding.fence

    def take_waiting(self, name: str, token: str, most: int = 1) -> list[float]:
        """Return the fence, and the moment (monotonic) at which it was granted."""
        fence = self.take(name, token, most, waits=True)
        while fence is None:
            self._store.wait(self._ask(name, token, most, waits=True), 0.5)
            fence = self.take(name, token, most, waits=True)
        return [fence, time.monotonic()]

    def lasts(self, name: str, token: str) -> float:
        return self._store.take(self._ask(name, token)).lasts

    def renew(self, token: str) -> bool:
        return self._store.renew([(self._held[token], 10.0)])[0]

    def give_back(self, token: str) -> bool:
        return self._store.give_back(self._held.pop(token))

    def work(self, name: str, most: int, seconds: float) -> list[tuple[float, float, int]]:
        """Take and give back again and again; return from when to when each time, and with which fence."""
        spans = []
        ends = time.monotonic() + seconds
        number = 0
        while time.monotonic() < ends:
            number += 1
            token = f"{os.getpid()}-{number}"
            if number % 2:
                fence, began = self.take_waiting(name, token, most)
            else:
                taken = self.take(name, token, most)
                fence, began = (0 if taken is None else taken), time.monotonic()
            if fence:
                time.sleep(0.002)
                spans.append((began, time.monotonic(), int(fence)))
                assert self.give_back(token)
        return spans

    def fork(self, name: str, token: str) -> dict[str, Any]:
        """Fork; return what the child was told when it asked for `name` and `name`/child, and the sessions."""
        from django_celery_extensions.stores.zookeeper_session import current_client

        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            seen = {
                "held": self.take(name, f"{token}-child"),
                "other": self.take(f"{name}/child", f"{token}-child"),
                "session": current_client().session,
            }
            os.write(writing, json.dumps(seen).encode())
            sys.exit(0)  # through atexit, as a program of a user may
        os.waitpid(pid, 0)
        child: dict[str, Any] = json.loads(os.read(reading, 4096))
        return {"child": child, "session": current_client().session, "renewed": self.renew(token)}

    def threads(self, name: str, most: int, number: int) -> list[int]:
        """Ask in so many threads (greenlets, with gevent) at once; return the fences of those who got it."""
        import threading

        fences: list[int] = []

        def run(token: str) -> None:
            fence = self.take(name, token, most)
            if fence is not None:
                fences.append(fence)

        threads = [threading.Thread(target=run, args=(f"t{at}",)) for at in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return fences

    @staticmethod
    def handler() -> str:
        from django_celery_extensions.stores.zookeeper_session import current_client

        return type(current_client()._kazoo.handler).__name__

    @staticmethod
    def _ask(name: str, token: str, most: int = 1, waits: bool = False) -> Any:
        from django_celery_extensions.stores.leases import LeaseAsk

        return LeaseAsk(name=name, token=token, owner=str(os.getpid()), lasts=10.0, most=most, waits=waits)


def main(hosts: str) -> None:
    import django

    django.setup()
    from django.conf import settings

    from tests.project.celery import app

    settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = "zookeeper"
    app.conf.zookeeper_hosts = hosts
    actor = Actor()
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            answer = {"result": getattr(actor, method)(*arguments)}
        except Exception as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if "gevent" in sys.argv[2:]:
        from gevent import monkey

        monkey.patch_all()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    main(sys.argv[1])
