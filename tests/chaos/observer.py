"""Sees when the store does not serve, whoever is to blame: the nemesis, a slow disk, a machine that stands still."""

from __future__ import annotations

import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING

from tests.chaos.history import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers import Server


class Observer(threading.Thread):
    """Asks the servers of the store all the time, and writes down each stretch without an answer from all of them."""

    #: Seconds between two looks, and seconds that an answer may take.
    LOOK, SLOW = 0.1, 0.5

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._over = threading.Event()

    def run(self) -> None:
        good = monotonic()
        while not self._over.wait(self.LOOK):
            asked_at = monotonic()
            if not self._serves():
                continue
            # Also where it was this thread that got no turn: nor did the workers then.
            if monotonic() > good + self.LOOK + self.SLOW:
                note("outage", t=good, to=monotonic())
            good = asked_at

    def _serves(self) -> bool:
        with contextlib.suppress(OSError):
            return all(server.answers() for server in self._servers)
        return False

    def finish(self) -> None:
        self._over.set()
        self.join()
