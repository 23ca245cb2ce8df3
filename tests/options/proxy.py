"""A door before a server that counts who comes in, and can be slammed."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from tests.forwarding import Forwarder

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Proxy(Forwarder):
    """Passes bytes between its own *port* and that of a server on this machine."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        #: How many connections were opened.
        self.accepted = 0
        self._silent = self._hanging_up = False

    def let_in(self, client: socket.socket) -> bool:
        self.accepted += 1
        if self._hanging_up:
            _reset(client)
        return not (self._hanging_up or self._silent)

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
        connections, self.sockets = self.sockets, []
        for connection in connections:
            _reset(connection)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
