"""A connection out of a pool of redis-py and back, for a third of what redis-py's own way costs.

Before an idle connection is used again, it must be open and have nothing to read. redis-py finds out by reading from it,
which changes the mode of the socket twice and takes an exception. The system can be asked instead, as redis-py itself does
where hiredis is installed.

When it is given back, redis-py puts together what it would count, and finds that nobody does.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_poll: Any = getattr(select, "poll", None)  # not on Windows


def idle_connection(pool: Any) -> Any:
    """Take a connection out of a ``redis.ConnectionPool`` as its ``get_connection()`` does, if one is ready.

    None: none is idle, or there is more to see to (a fork, a closed or encrypted connection, something to read). The pool
    knows how. The connection goes back with its ``release()``.
    """
    if pool.pid != os.getpid():
        return None
    with pool._lock:  # noqa: SLF001 - here and below: redis-py has no public way
        idle = pool._available_connections  # noqa: SLF001
        if not idle:
            return None
        connection = idle[-1]
        sock, parser = connection._sock, connection._parser  # noqa: SLF001
        buffer = getattr(parser, "_buffer", None)
        # What has come is in the socket, or in the buffer of redis-py's own parser.
        if type(sock) is not socket.socket or buffer is None or _poll is None:
            return None
        poller = _poll()
        poller.register(sock, select.POLLIN)
        if buffer.unread_bytes() or poller.poll(0):
            # The server has closed it, or somebody was interrupted before reading an answer. redis-py 8 would let the
            # next command have that answer, as it may be a notification.
            connection.disconnect()
            return None
        pool._in_use_connections.add(idle.pop())  # noqa: SLF001
    return connection


def give_back(pool: Any, connection: Any, released: Callable[[Any], Any]) -> None:
    """Give a connection back to a ``redis.ConnectionPool`` as its ``release()`` does, where nobody measures the pool.

    ``released`` makes the event that tells of it.
    """
    wants_another = getattr(connection, "should_reconnect", None)  # since redis-py 7
    with pool._lock:  # noqa: SLF001 - likewise
        ours = connection.pid == pool.pid == os.getpid() and connection in pool._in_use_connections  # noqa: SLF001
        if ours and (wants_another is None or not wants_another()):
            pool._in_use_connections.remove(connection)  # noqa: SLF001
            pool._available_connections.append(connection)  # noqa: SLF001
            pool._event_dispatcher.dispatch(released(connection))  # noqa: SLF001
            return
    pool.release(connection)
