"""A network between a client and its Redis: it loses what it is told to lose, and counts who waited for whom."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from tests.forwarding import Forwarder, hang_up, read
from tests.servers import HOST

if TYPE_CHECKING:
    import socket


class Proxy(Forwarder):
    """Passes on what it gets, on a port of its own.

    `lose("reply", b"EVALSHA", times=2)`: twice, when a request with these bytes was passed on and answered, the
    answer is thrown away and the connection closed. "request": the request does not arrive either. "late": the
    request arrives when `release()` is called, long after the connection was closed.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._lock = threading.Lock()
        self._lose: tuple[str, bytes, int] = ("", b"", 0)
        self._late: list[tuple[socket.socket, bytes, threading.Event]] = []
        #: How often a client sent something after it had been answered: its round trips.
        self.trips = 0
        #: How often something was lost.
        self.lost = 0

    def database(self, number: int) -> str:
        return f"redis://{HOST}:{self.port}/{number}"

    def lose(self, what: str, request: bytes, times: int = 1) -> None:
        with self._lock:
            self._lose = (what, request, times)

    def release(self) -> None:
        """Let late requests arrive."""
        for server, request, answered in self._late:
            answered.clear()
            server.sendall(request)
            assert answered.wait(10)
        self._late.clear()

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry one connection: requests here, answers in a thread of their own."""
        swallow, answered = threading.Event(), threading.Event()

        def answers() -> None:
            while piece := read(server):
                if swallow.is_set():
                    break
                answered.set()
                with contextlib.suppress(OSError):
                    client.sendall(piece)
            hang_up(client)

        self.start(answers)
        while piece := read(client):
            with self._lock:
                what, request, times = self._lose
                hit = times > 0 and request in piece
                if hit:
                    self._lose = (what, request, times - 1)
                    self.lost += 1
                if answered.is_set():
                    answered.clear()
                    self.trips += 1
            if hit and what in ("request", "late"):
                if what == "late":
                    self._late.append((server, piece, answered))
                hang_up(client)
                return
            if hit:
                swallow.set()
            with contextlib.suppress(OSError):
                server.sendall(piece)
        hang_up(server)
