"""A network between an agent and its Redis: every request takes a while longer to arrive, and round trips are counted.

`python benchmarks/proxy.py PORT SECONDS` listens on a port of its own, which it prints, and passes on what it gets. What
follows closely travels together, as it would on a wire: it delays, and does not slow down. All of the delay is on the
way there, so that a round trip takes that much longer.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
from contextlib import suppress
from time import monotonic, sleep

HOST = "127.0.0.1"


class Network:
    """Listens on :attr:`port` for clients of the server at another port."""

    def __init__(self, port: int, delay: float) -> None:
        self._server, self._delay = port, delay
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        #: How often a client has sent something after it was answered: it had waited for that.
        self.trips = 0
        self._count = threading.Lock()

    def serve(self) -> None:
        """Take clients until closed."""
        with suppress(OSError):
            while True:
                _Connection(self, self._listening.accept()[0], self._server, self._delay)

    def close(self) -> None:
        """Take no more of them."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def trip(self) -> None:
        with self._count:
            self.trips += 1


class _Connection:
    """One client, and what is under way between it and the server."""

    def __init__(self, network: Network, client: socket.socket, port: int, delay: float) -> None:
        self._network, self._client, self._delay = network, client, delay
        self._server = socket.create_connection((HOST, port))
        self._under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._answered = False
        for side in (self._client, self._server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for work in (self._requests, self._arrivals, self._answers):
            threading.Thread(target=work, daemon=True).start()

    def _requests(self) -> None:
        while piece := _read(self._client):
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
            with suppress(OSError):
                if piece:
                    self._server.sendall(piece)
                else:
                    self._server.shutdown(socket.SHUT_RDWR)
            if not piece:
                return

    def _answers(self) -> None:
        while piece := _read(self._server):
            self._answered = True
            with suppress(OSError):
                self._client.sendall(piece)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


def _read(side: socket.socket) -> bytes:
    with suppress(OSError):
        return side.recv(1 << 16)
    return b""


def main() -> None:
    """Serve until killed."""
    network = Network(int(sys.argv[1]), float(sys.argv[2]))
    sys.setswitchinterval(0.0005)
    print(network.port, flush=True)
    network.serve()


if __name__ == "__main__":
    main()
