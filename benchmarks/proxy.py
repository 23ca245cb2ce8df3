"""A network between an agent and its Redis: every request takes a while longer to arrive.

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
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Piece = tuple[float, bytes]

HOST = "127.0.0.1"


def read(source: socket.socket, put: Callable[[Piece], object], delay: float) -> None:
    """Hand on what one side says, with the moment when it is to arrive; nothing at its end."""
    piece = b"?"
    while piece:
        piece = b""
        with suppress(OSError):
            piece = source.recv(1 << 16)
        put((monotonic() + delay, piece))


def deliver(target: socket.socket, piece: Piece) -> None:
    """Let a piece arrive when it is due; hang up after the last one."""
    due, data = piece
    wait = due - monotonic()
    if wait > 0:
        sleep(wait)
    with suppress(OSError):
        if data:
            target.sendall(data)
        else:
            target.shutdown(socket.SHUT_RDWR)


def connect(client: socket.socket, port: int, delay: float) -> None:
    """Join a client to the server."""
    server = socket.create_connection((HOST, port))
    for side in (client, server):
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    under_way: queue.SimpleQueue[Piece] = queue.SimpleQueue()

    def arrive() -> None:
        piece = (0.0, b"?")
        while piece[1]:
            piece = under_way.get()
            deliver(server, piece)

    for work in (
        partial(read, client, under_way.put, delay),
        arrive,
        partial(read, server, partial(deliver, client), 0.0),
    ):
        threading.Thread(target=work, daemon=True).start()


def main() -> None:
    """Serve until killed."""
    port, delay = int(sys.argv[1]), float(sys.argv[2])
    sys.setswitchinterval(0.0005)
    with socket.create_server((HOST, 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connect(listening.accept()[0], port, delay)


if __name__ == "__main__":
    main()
