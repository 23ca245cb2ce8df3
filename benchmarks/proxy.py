"""A network between an agent and its Redis: every request takes a while longer to arrive, and round trips are counted.

`python -m benchmarks.proxy PORT SECONDS` listens on a port of its own, which it prints, and passes on what it gets. What
follows closely travels together, as it would on a wire: it delays, and does not slow down. All of the delay is on the
way there, so that a round trip takes that much longer.
"""

from __future__ import annotations

import queue
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from tests.forwarding import Forwarder, hang_up, read

if TYPE_CHECKING:
    import socket


class Network(Forwarder):
    """Listens on :attr:`port` for clients of the server at another port."""

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(port)
        self._delay = delay
        #: How often a client has sent something after it was answered: it had waited for that.
        self.trips = 0
        self._count = threading.Lock()

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        _Connection(self, client, server, self._delay)

    def trip(self) -> None:
        with self._count:
            self.trips += 1


class _Connection:
    """One client, and what is under way between it and the server."""

    def __init__(self, network: Network, client: socket.socket, server: socket.socket, delay: float) -> None:
        self._network, self._client, self._server, self._delay = network, client, server, delay
        self._under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._answered = False
        for work in (self._requests, self._arrivals, self._answers):
            network.start(work)

    def _requests(self) -> None:
        while piece := read(self._client):
            if self._answered:
                self._answered = False
                self._network.trip()
            self._under_way.put((monotonic() + self._delay, piece))
        self._under_way.put((0.0, b""))

    def _arrivals(self) -> None:
        while True:
            due, piece = self._under_way.get()
            wait = due - monotonic()
            if wait > 0:
                sleep(wait)
            if not piece:
                hang_up(self._server)
                return
            with suppress(OSError):
                self._server.sendall(piece)

    def _answers(self) -> None:
        while piece := read(self._server):
            self._answered = True
            with suppress(OSError):
                self._client.sendall(piece)
        hang_up(self._client)


def main() -> None:
    """Serve until killed."""
    network = Network(int(sys.argv[1]), float(sys.argv[2]))
    sys.setswitchinterval(0.0005)
    print(network.port, flush=True)
    network.serve()


if __name__ == "__main__":
    main()
