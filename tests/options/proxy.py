"""A door before a server that counts who comes in, and can be slammed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes between its own *port* and that of a server on this machine."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        #: How many connections were opened.
        self.accepted = 0
        self._silent = self._hanging_up = False
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(client)
            if self._hanging_up:
                _reset(client)
            elif not self._silent:
                server = socket.create_connection((HOST, self._server))
                self._open.append(server)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Who comes now is let in, and hears nothing."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    @contextlib.contextmanager
    def hanging_up(self) -> Iterator[None]:
        """Who comes now is thrown out."""
        self._hanging_up = True
        try:
            yield
        finally:
            self._hanging_up = False

    def cut(self) -> None:
        """Reset every connection."""
        connections, self._open = self._open, []
        for connection in connections:
            _reset(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
