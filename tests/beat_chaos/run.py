"""One run: servers, a worker, beats, and the nemesis that looks for the one that fires."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.beats import Beat
from tests.chaos import history
from tests.chaos.history import note
from tests.chaos.observer import watching
from tests.servers import RedisServer
from tests.waiting import wait_until
from tests.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE, SLEEP = 3.0, 0.5
BOUND = LEASE + SLEEP + 1
#: Seconds between two harms, and how long the frozen stay so.
STRIKE, FROZEN = 6.0, LEASE * 1.5


@dataclass(frozen=True, kw_only=True)
class System:
    """What fires: a scheduler, and how many of it."""

    name: str
    scheduler: str
    beats: int = 3
    env: Mapping[str, str] = field(default_factory=dict)
    #: Interpreter that has it.
    python: str | None = None
    #: Its state lives in the store, which is harmed too.
    stored: bool = True


OURS = System(
    name="django_celery_extensions, 3 beats",
    scheduler="tests.beat_chaos.scheduler.Recorded",
    env={"BEAT_CHAOS_OURS": "1"},
)
PLAIN = "celery.beat.PersistentScheduler"


def peers(python: str | None) -> list[System]:
    """Return the others; redbeat needs an interpreter that has it."""
    found = [
        System(name="celery beat, 1 beat, restarted", scheduler=PLAIN, beats=1, stored=False),
        System(name="celery beat, 3 beats", scheduler=PLAIN, stored=False),
    ]
    if python is not None:
        found.insert(
            0,
            System(
                name=f"redbeat, 3 beats, lease {LEASE:g} s",
                scheduler="redbeat.RedBeatScheduler",
                python=python,
            ),
        )
    return found


class BeatChaos:
    """The run of one system."""

    def __init__(self, system: System, seconds: float, seed: int) -> None:
        self.system = system
        self.seconds = seconds
        self.chance = random.Random(seed)
        self.directory = Path(tempfile.mkdtemp(prefix="dce-beat-chaos-"))
        self.done: Counter[str] = Counter()
        self.beats: list[Beat] = []
        self.records: dict[str, Any] = {}
        self._frozen: dict[Beat, float] = {}
        self._env: dict[str, str] = {}
        self._number = 0

    def run(self) -> list[history.Event]:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            broker = stack.enter_context(RedisServer())
            self.store = stack.enter_context(RedisServer("--appendonly", "yes", "--appendfsync", "always"))
            self._env = self._environment(broker)
            worker = Worker(concurrency=2, env=self._env, loglevel="WARNING")
            stack.callback(worker.close)
            stack.callback(self._close)
            self._fill()
            wait_until(lambda: self._fires() is not None, 60, what=self._logs)
            note("begin")
            stack.enter_context(watching([self.store]))
            self._harm()
            self._rest()
            note("end")
            time.sleep(1.0)
            self._read_records()
            return history.read(self.directory)

    def _environment(self, broker: RedisServer) -> dict[str, str]:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.beat_chaos.settings",
            "CELERY_BROKER_URL": broker.database(0),
            "CELERY_RESULT_BACKEND": broker.database(1),
            "TEST_REDIS_URL": self.store.url,
            "TEST_SOCKET_TIMEOUT": "1",
            "TEST_LOCK_TIMEOUT": str(LEASE),
            "TEST_LOCK_SLEEP": str(SLEEP),
            history.DIRECTORY: str(self.directory),
            **self.system.env,
        }
        os.environ[history.DIRECTORY] = str(self.directory)
        history.forget()  # what this process wrote for an earlier run
        return {**os.environ, **env}

    def _fill(self) -> None:
        self.beats = [beat for beat in self.beats if beat.alive]
        while len(self.beats) < self.system.beats:
            # Its place in the fleet keeps its schedule file, as a restarted machine does.
            self._number += 1
            file = self.directory / f"schedule-{self._number % self.system.beats}"
            beat = Beat(
                scheduler=self.system.scheduler, env=self._env, python=self.system.python, file=str(file)
            )
            self.beats.append(beat)

    def _fires(self) -> Beat | None:
        """Return the beat that sent last, if it is there and not frozen."""
        sent = [event for event in history.read(self.directory) if event["e"] == "sent"]
        last = sent[-1]["pid"] if sent and monotonic() - sent[-1]["t"] < STRIKE else None
        return next((beat for beat in self.beats if beat.pid == last and beat not in self._frozen), None)

    def _harm(self) -> None:
        ends = monotonic() + self.seconds
        while monotonic() < ends:
            self._tend_until(min(ends, monotonic() + STRIKE))
            if monotonic() >= ends:
                break
            if self.system.stored and self.chance.random() < 0.2:
                self._restart_store()
                continue
            victim = self._fires()
            self._wait_for_slots()
            if victim is None:
                self.done["nobody fired"] += 1
            elif self.chance.random() < 0.5:
                victim.kill()
                self.done["killed"] += 1
                note("kill", pid=victim.pid)
            else:
                victim.freeze()
                self._frozen[victim] = monotonic() + FROZEN
                self.done["frozen"] += 1
                note("freeze", pid=victim.pid)

    def _wait_for_slots(self) -> None:
        """Strike while the slots of a second are being claimed and sent, every other time."""
        slots = [event["slot"] for event in history.read(self.directory) if event["e"] == "sent"]
        if slots and slots[-1] is not None and self.chance.random() < 0.5:
            phase = slots[-1] / 1_000_000 % 1
            time.sleep((phase - time.time()) % 1 + self.chance.uniform(0, 0.04))

    def _tend_until(self, moment: float) -> None:
        while monotonic() < moment:
            for beat, until in [*self._frozen.items()]:
                if monotonic() >= until:
                    del self._frozen[beat]
                    beat.thaw()
                    note("thaw", pid=beat.pid)
            self._fill()
            time.sleep(0.05)

    def _restart_store(self) -> None:
        began = monotonic()
        if self.chance.random() < 0.5:
            self.store.kill()
        else:
            os.kill(self.store.pid, signal.SIGTERM)
            wait_until(lambda: not self.store.alive, what="the store ended")
        time.sleep(self.chance.uniform(0, LEASE))
        self.store.restart()
        note("outage", t=began, to=monotonic())
        self.done["store killed"] += 1

    def _rest(self) -> None:
        """Thaw everybody, and let what was missed be caught up."""
        for beat in [*self._frozen]:
            self._frozen[beat] = 0.0
        self._tend_until(monotonic() + BOUND + 2)

    def _read_records(self) -> None:
        if self.system is not OURS:
            return
        for beat in self.beats:
            beat.stop()
        time.sleep(1.0)  # the worker starts what was sent last
        from django_celery_extensions.stores.slots import unpack

        with self.store.client(decode_responses=True) as client:
            (key,) = client.keys("*:slots:records")
            self.records = {name: unpack(packed) for name, packed in client.hgetall(key).items()}

    def _close(self) -> None:
        for beat in self.beats:
            beat.thaw()
            beat.close()

    def _logs(self) -> str:
        return "\n".join(beat.log()[-2000:] for beat in self.beats)
