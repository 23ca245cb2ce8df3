"""Harms workers and the store, and writes down when it did."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

from tests.chaos.history import note
from tests.processes import children_of
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from tests.servers import RedisServer

CONCURRENCY = 3


class Nemesis:
    """Owns the workers and the store, and harms them as chance has it."""

    #: Seconds between two harms, at least and at most.
    PAUSE = (0.2, 2.5)

    def __init__(
        self, chance: random.Random, store: RedisServer, env: Mapping[str, str], *, workers: int, lease: float
    ) -> None:
        self.chance = chance
        self.store = store
        self.env = env
        self.lease = lease
        self.wanted = workers
        self.workers: list[Worker] = []
        self.done: Counter[str] = Counter()
        #: Frozen workers: when each thaws, and since when it is frozen.
        self._frozen: dict[Worker, tuple[float, float]] = {}
        self._harms: dict[Callable[[], None], int] = {
            self.kill_group: 5,
            self.kill_child: 8,
            self.freeze_worker: 6,
            self.freeze_child: 3,
            self.stop_worker: 1,
            self.quit_worker: 1,
            self.restart_store: 2,
            self.freeze_store: 2,
        }

    @property
    def kills(self) -> int:
        return self.done["workers killed"] + self.done["children killed"]

    def fill(self) -> None:
        """Start workers until there are as many as wanted."""
        self.workers = [worker for worker in self.workers if worker.alive]
        while len(self.workers) < self.wanted:
            self.workers.append(Worker(concurrency=CONCURRENCY, env=self.env, loglevel="WARNING"))

    def strike(self) -> None:
        """Do one harm, drawn by lot."""
        harm = self.chance.choices([*self._harms], [*self._harms.values()])[0]
        harm()

    def strike_for(self, seconds: float, kills: int, also: Callable[[], None] = lambda: None) -> None:
        """Strike until the time is over; more often where the kills fall behind. `also` is called each time.

        Whom the lot falls on may not be there to be killed, or the machine may be slow: what is missing then is made up
        for afterwards, for as long again at most.
        """
        began = monotonic()
        ends = began + seconds
        while (now := monotonic()) < ends or (self.kills < kills and now < ends + seconds):
            self.tend()
            missing = self.kills < kills * (now - began) / seconds
            behind = missing and (now >= ends or self.chance.random() < 0.5)
            (self.kill_some if behind else self.strike)()
            also()
            wake = monotonic() + self.chance.uniform(*self.PAUSE)
            if now < ends:
                wake = min(ends, wake)
            while monotonic() < wake:
                self.tend()
                time.sleep(0.05)

    def kill_some(self) -> None:
        """Kill where the kills fall behind."""
        self.kill_child()

    def tend(self) -> None:
        """Thaw whoever was frozen for long enough, and replace the dead."""
        for worker, (until, _) in [*self._frozen.items()]:
            if monotonic() >= until:
                self._thaw(worker)
        self.fill()

    def rest(self) -> None:
        """Harm nobody any more: thaw everything and fill up."""
        for worker in [*self._frozen]:
            self._thaw(worker)
        self.fill()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def kill_group(self) -> None:
        """SIGKILL a worker with all its children."""
        worker = self._victim(frozen_too=True)
        if worker is None:
            return
        began = monotonic()
        worker.kill()
        self._over(worker, began)
        note("kill", t=began, to=monotonic(), worker=worker.pid, pid=None)
        self.done["workers killed"] += 1
        worker.close()

    def kill_child(self) -> None:
        """SIGKILL one process of a worker's pool, if possible one that works."""
        worker = self._victim()
        children = children_of(worker.pid) if worker is not None else []
        if worker is None or not children:
            return
        pid = self.chance.choice(children)
        began = monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            note("kill", t=began, to=monotonic(), worker=worker.pid, pid=pid)
            self.done["children killed"] += 1

    def freeze_worker(self) -> None:
        """Stop a worker with its children for longer or shorter than a lease."""
        worker = self._victim()
        if worker is not None:
            now = monotonic()
            worker.freeze()
            self._frozen[worker] = (now + self.lease * self.chance.uniform(0.8, 2.2), now)
            self.done["workers frozen"] += 1

    def freeze_child(self) -> None:
        """The same for one process of a pool."""
        worker = self._victim()
        children = children_of(worker.pid) if worker is not None else []
        if worker is None or not children:
            return
        pid = self.chance.choice(children)
        began = monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.lease * self.chance.uniform(0.8, 1.8))
            note("freeze", t=began, to=monotonic(), worker=worker.pid, pid=pid)
            os.kill(pid, signal.SIGCONT)
            self.done["children frozen"] += 1

    def stop_worker(self) -> None:
        """Warm shutdown: what runs may end, but what takes too long is killed."""
        self._end(signal.SIGTERM, "workers stopped (SIGTERM)")

    def quit_worker(self) -> None:
        """Cold shutdown: what runs is stopped, and goes back to the broker where it may."""
        self._end(signal.SIGQUIT, "workers stopped (SIGQUIT)")

    def _end(self, number: int, what: str) -> None:
        worker = self._victim()
        if worker is None:
            return
        began = monotonic()
        os.kill(worker.pid, number)
        while worker.alive and monotonic() < began + 2 * self.lease:
            time.sleep(0.02)
        worker.kill()
        note("kill", t=began, to=monotonic(), worker=worker.pid, pid=None)
        self.done[what] += 1
        worker.close()

    def restart_store(self) -> None:
        """End the store, by SIGKILL or in order, and start it again on the same port and the same file."""
        began = monotonic()
        if self.chance.random() < 0.5:
            self.store.kill()
            self.done["store killed"] += 1
        else:
            os.kill(self.store.pid, signal.SIGTERM)
            wait_until(lambda: not self.store.alive, what="the store ended")
            self.done["store restarted (SIGTERM)"] += 1
        time.sleep(self.chance.uniform(0, self.lease))
        self.store.restart()
        note("outage", t=began, to=monotonic())

    def freeze_store(self) -> None:
        began = monotonic()
        with self.store.frozen():
            time.sleep(self.lease * self.chance.uniform(0.2, 1.6))
        note("outage", t=began, to=monotonic())
        self.done["store frozen"] += 1

    def _victim(self, *, frozen_too: bool = False) -> Worker | None:
        alive = [
            worker
            for worker in self.workers
            if worker.alive and ready(worker) and (frozen_too or worker not in self._frozen)
        ]
        return self.chance.choice(alive) if alive else None

    def _thaw(self, worker: Worker) -> None:
        self._over(worker, monotonic())
        worker.thaw()

    def _over(self, worker: Worker, to: float) -> None:
        _, began = self._frozen.pop(worker, (0.0, 0.0))
        if began:
            note("freeze", t=began, to=to, worker=worker.pid, pid=None)


def ready(worker: Worker) -> bool:
    """Tell whether a worker takes messages; at loglevel WARNING it does not say so, but its children are there."""
    return len(children_of(worker.pid)) >= CONCURRENCY
