"""Harms clients, workers and the store, and writes down when it did."""

from __future__ import annotations

import os
import signal
import sys
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.chaos.history import note
from tests.chaos.nemesis import Nemesis, ready
from tests.processes import Process
from tests.waiting import wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers_zookeeper import ZooKeeperEnsemble, ZooKeeperServer
    from tests.workers import Worker

THREADS = 2


class Client(Process):
    """A process that takes locks and is no worker."""

    def __init__(self, seed: int, directory: Path, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.lock_chaos.client", str(seed), str(THREADS)]
        super().__init__(command, log=directory / f"client-{seed}.log", env=env)
        self.born = monotonic()

    def close(self) -> None:
        self.kill()


class LockNemesis(Nemesis):
    """Also owns clients; the store is a Redis."""

    #: Seconds after which a client that was started has taken locks.
    GROWN = 2.0

    def __init__(
        self,
        chance: random.Random,
        store: Any,
        env: Mapping[str, str],
        *,
        clients: int,
        directory: Path,
        **given: Any,
    ) -> None:
        super().__init__(chance, store, env, **given)
        self.clients: list[Client] = []
        # Of what these draw, only the workers have children.
        self._harms |= {self.kill_group: 10, self.freeze_worker: 9}
        self._wanted_clients, self._directory, self._seed = clients, directory, chance.randrange(1 << 20)

    @property
    def kills(self) -> int:
        return super().kills + self.done["clients killed"]

    def fill(self) -> None:
        super().fill()
        self.clients = [client for client in self.clients if client.alive]
        while len(self.clients) < self._wanted_clients:
            self._seed += THREADS
            self.clients.append(Client(self._seed, self._directory, self.env))

    def close(self) -> None:
        super().close()
        for client in self.clients:
            client.close()

    def stop(self) -> None:
        """Let everybody end in order, and tell who does not."""
        members = [*self.workers, *self.clients]
        for member in members:
            os.kill(member.pid, signal.SIGTERM)
        ends = monotonic() + 10 * self.lease
        for member in members:
            while member.alive and monotonic() < ends:
                time.sleep(0.05)
            if member.alive:
                note("stuck", pid=member.pid, log=member.log()[-2000:])

    def kill_group(self) -> None:
        victim = self._victim(frozen_too=True)
        if victim is None:
            return
        began = monotonic()
        victim.kill()
        self._over(victim, began)
        note("kill", t=began, to=monotonic(), worker=victim.pid, pid=None)
        self.done["clients killed" if isinstance(victim, Client) else "workers killed"] += 1
        victim.close()

    def freeze_worker(self) -> None:
        victim = self._victim()
        if victim is not None:
            now = monotonic()
            victim.freeze()
            self._frozen[victim] = (now + self.lease * self.chance.uniform(0.1, 2.2), now)
            self.done["clients frozen" if isinstance(victim, Client) else "workers frozen"] += 1

    def kill_some(self) -> None:
        (self.kill_group if self.chance.random() < 0.7 else self.kill_child)()

    def _victim(self, *, frozen_too: bool = False) -> Any:
        grown = monotonic() - self.GROWN
        able: list[Client | Worker] = [
            client for client in self.clients if client.alive and client.born < grown
        ]
        able += [worker for worker in self.workers for _ in range(2) if worker.alive and ready(worker)]
        able = [member for member in able if frozen_too or member not in self._frozen]
        return self.chance.choice(able) if able else None


class ZooKeeperNemesis(LockNemesis):
    """The store is an ensemble: one member is away, and sometimes two or all of them."""

    store: ZooKeeperEnsemble

    def restart_store(self) -> None:
        """Kill a member, or end it in order, and start it again."""
        began = monotonic()
        for member, what in self._members():
            if self.chance.random() < 0.5:
                member.kill()
                self.done[f"{what} killed"] += 1
            else:
                os.kill(member.pid, signal.SIGTERM)
                wait_until(lambda member=member: not member.alive, what="the server ended")
                self.done[f"{what} restarted (SIGTERM)"] += 1
        self._heal(began)

    def freeze_store(self) -> None:
        began = monotonic()
        for member, what in self._members():
            member.freeze()
            self.done[f"{what} frozen"] += 1
        self._heal(began)

    def _members(self) -> list[tuple[ZooKeeperServer, str]]:
        """Draw who is harmed: mostly one, the leader as often as another one."""
        self.store.ready()
        leader = [(self.store.leader, "ZooKeeper leader")]
        followers = [(member, "ZooKeeper follower") for member in self.store.followers]
        self.chance.shuffle(followers)
        return self.chance.choice([leader, leader, followers[:1], followers[:1], leader + followers[:1]])

    def _heal(self, began: float) -> None:
        time.sleep(self.lease * self.chance.uniform(0.2, 1.6))
        self.store.heal()
        note("outage", t=began, to=monotonic())
