"""The one session that a process has with ZooKeeper.

Made when first used, and anew in a forked child: the parent's is left alone there, since a word on its connection
would end the parent's session. Closed at the end of the process, so that nobody waits for what it held.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from celery.signals import worker_process_shutdown

from django_celery_extensions.config import settings
from django_celery_extensions.stores import zookeeper_hosts
from django_celery_extensions.stores.zookeeper_client import ZooKeeperClient

#: Seconds that anything may take that waits for a server; less where leases are shorter.
WITHIN = 5.0


class _Process:
    """What this process has."""

    def __init__(self) -> None:
        self._client: ZooKeeperClient | None = None
        self._lock = threading.Lock()
        #: Clients of processes that this one was forked from. Kept, so that nothing of them is ever finalised.
        self._inherited: list[ZooKeeperClient] = []
        os.register_at_fork(after_in_child=self._forked)

    def client(self) -> ZooKeeperClient:
        client = self._client
        if client is not None and not client.ended:
            return client
        with self._lock:
            client = self._client
            if client is not None and client.ended:
                client.close()
                client = None
            if client is None:
                lasts = float(settings.LOCK_TIMEOUT)
                client = ZooKeeperClient(
                    zookeeper_hosts.hosts(),
                    zookeeper_hosts.options(),
                    timeout=lasts,
                    within=min(WITHIN, lasts),
                )
                self._client = client
                self._listen()
            return client

    def close(self, *, at_exit: bool = False) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close(at_exit=at_exit)

    def _listen(self) -> None:
        # After kazoo's own, and so called before it.
        atexit.unregister(self.close)
        atexit.register(self.close, at_exit=True)
        # A prefork child ends without the former.
        worker_process_shutdown.connect(
            self._worker_process_ends, weak=False, dispatch_uid="django_celery_extensions.zookeeper"
        )

    def _worker_process_ends(self, **_: Any) -> None:
        self.close(at_exit=True)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._client is not None:
            self._client.forget()
            self._inherited.append(self._client)
            self._client = None


_process = _Process()


def current_client() -> ZooKeeperClient:
    """Return the client of this process, connecting or connected, as the configuration said when it was made.

    Raises :class:`~django_celery_extensions.exceptions.TaskConfigurationError` for a configuration that can't work.
    """
    return _process.client()


def close() -> None:
    """End the session of this process and all that it holds; the next use makes another one."""
    _process.close()
