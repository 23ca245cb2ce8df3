"""A port that leads to a server's: the part that is the same in all networks that tests and benchmarks put between."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class Forwarder:
    """Lets clients in on :attr:`port`, and carries each to a server on this machine.

    Subclasses say who comes in, and what becomes of the bytes; what they do runs in threads of the forwarder's.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        #: Both ends of each connection.
        self.sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def let_in(self, client: socket.socket) -> bool:
        """Tell whether this client gets a connection with the server."""
        return True

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what both say, until one of them hangs up."""
        self.start(pass_on, server, client)
        pass_on(client, server)

    def start(self, work: Callable[..., None], *args: Any) -> None:
        """Let a thread do it, which ends when the connections do."""
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        self.start(self.serve)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def serve(self) -> None:
        """Let clients in until closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.sockets.append(client)
            if not self.let_in(client):
                continue
            try:
                server = socket.create_connection((HOST, self._server_port))
            except OSError:
                hang_up(client)
                continue
            self.sockets.append(server)
            for side in (client, server):
                with suppress(OSError):  # the client may be gone
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.start(self.carry, client, server)

    def close(self) -> None:
        """End every connection, and take no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a client
        self._listener.close()
        for thread in self._threads[:1]:  # from now on nobody comes in
            thread.join(10)
        for each in self.sockets:
            hang_up(each)
        for thread in self._threads:
            thread.join(10)
        for each in self.sockets:
            each.close()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Pass on what one says to the other, until one of them hangs up."""
    with suppress(OSError):
        while piece := read(source):
            target.sendall(piece)
    for each in (source, target):
        hang_up(each)


def read(side: socket.socket) -> bytes:
    """Return what it says next; nothing once it has hung up."""
    with suppress(OSError):
        return side.recv(1 << 20)
    return b""


def hang_up(side: socket.socket) -> None:
    """End a connection in order."""
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
