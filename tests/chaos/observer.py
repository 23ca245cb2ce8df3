"""Sees what the nemesis is not to blame for: a store that does not serve, a processor or a clock that is not right.

A store may wait for a slow disk. A virtual processor may be taken away by its host: whoever runs there, or sleeps on one
of its timers, stands still, while everybody else goes on. Both are written down as outages: nobody can renew then. A
clock that is set ends leases before their time, or keeps them; no rule holds then, and the run is void (`program`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from tests.chaos.history import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.servers import Server

#: Seconds between two looks, and seconds by which one may be late.
LOOK, SLOW = 0.1, 0.3
#: Seconds by which the clock may be off from one look to the next: it is slewed all the time.
SET = 0.1


class Looks(threading.Thread):
    """Looks all the time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK):
            self.look()

    def look(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self._over.set()
        self.join()


class Observer(Looks):
    """Asks the servers of the store, and writes down each stretch without an answer from all of them."""

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__()
        self._servers = servers
        self._good = monotonic()

    def look(self) -> None:
        asked_at = monotonic()
        if not self._serves():
            return
        # Also where it was this thread that got no turn: nor did the workers then.
        if monotonic() > self._good + LOOK + SLOW:
            note("outage", t=self._good, to=monotonic(), why="the store did not answer")
        self._good = asked_at

    def _serves(self) -> bool:
        with contextlib.suppress(OSError):
            return all(server.answers() for server in self._servers)
        return False


class Pulse(Looks):
    """Wakes on one processor, and writes down each stretch in which that did not let it."""

    def __init__(self, processor: int, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._processor = processor
        self._clock = clock
        self._last = clock()

    def run(self) -> None:
        os.sched_setaffinity(0, {self._processor})  # of this thread
        super().run()

    def look(self) -> None:
        now = self._clock()
        if now > self._last + LOOK + SLOW:
            note("outage", t=self._last, to=now, why=f"processor {self._processor} stood still")
        self._last = now


class ClockWatch(Looks):
    """Writes down when the clock of the machine, by which a store lets leases end, was set."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._ahead: float | None = None
        self.look()

    def look(self) -> None:
        before, now, after = monotonic(), self._clock(), monotonic()
        if after - before > SET / 2:
            return  # this thread stood still between reading one and the other
        ahead = now - after
        if self._ahead is not None and abs(ahead - self._ahead) > SET:
            note("clock set", by=round(ahead - self._ahead, 3))
        self._ahead = ahead


@contextmanager
def watching(servers: Sequence[Server]) -> Iterator[None]:
    """Watch the servers of the store and the machine during a block."""
    looks: list[Looks] = [Observer(servers), ClockWatch(), *map(Pulse, sorted(os.sched_getaffinity(0)))]
    with ExitStack() as stack:
        for each in looks:
            each.start()
            stack.callback(each.finish)
        yield
