"""One chaos run: servers, producers, workers, the nemesis, and at the end the wait for quiet."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis

from tests.chaos import history
from tests.chaos.history import note
from tests.chaos.nemesis import Nemesis
from tests.chaos.observer import watching
from tests.processes import Process
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASE = 2.0
VISIBILITY = 5
PRODUCERS, THREADS = 2, 3
#: Seconds between two looks at all claims.
SAMPLE = 0.1
#: Seconds that messages may take to come back and be worked off, once nobody calls any more.
QUIET = 120.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to do harm, how often to kill at least, and what chance to have."""

    seconds: float
    kills: int
    seed: int
    workers: int = 3


class Sampler(threading.Thread):
    """Looks at all claims all the time, and writes down each as long as it stands."""

    def __init__(self, server: RedisServer, keys: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._client = server.client(socket_timeout=0.5, socket_connect_timeout=0.5, decode_responses=True)
        self._keys = keys
        self._seen: dict[str, tuple[Any, float, float]] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLE):
            asked_at = monotonic()
            try:
                with self._client.pipeline(transaction=False) as pipe:
                    for claim_key in self._keys.values():
                        pipe.hmget(claim_key, "task", "fence", "token")
                    found = pipe.execute()
            except redis.RedisError:
                continue  # the store is down: nothing is seen
            for key, claim in zip(self._keys, found, strict=True):
                self._note(key, claim, asked_at)

    def _note(self, key: str, claim: list[Any], asked_at: float) -> None:
        seen, began, _ = self._seen.get(key, (None, asked_at, asked_at))
        if seen == claim:
            self._seen[key] = (claim, began, asked_at)
            return
        self._write(key)
        self._seen[key] = (claim, asked_at, asked_at)

    def _write(self, key: str) -> None:
        claim, began, until = self._seen.get(key, ([None], 0.0, 0.0))
        if claim[0] is not None:
            task, fence, token = claim
            note("claim", t=began, to=until, key=key, task=task, fence=int(fence), running=bool(token))

    def finish(self) -> None:
        self._over.set()
        self.join()
        for key in self._keys:
            self._write(key)
        self._client.close()


class Chaos:
    """The run, from the start of its servers to the end of its last task."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.directory = Path(tempfile.mkdtemp(prefix="dce-chaos-"))
        self.nemesis: Nemesis
        self.broker: RedisServer

    def run(self) -> list[history.Event]:
        """Do it all and return the history."""
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.broker = stack.enter_context(RedisServer())
            # What it acknowledged is on disk, so that a kill takes nothing from it.
            store = stack.enter_context(RedisServer("--appendonly", "yes", "--appendfsync", "always"))
            stack.callback(store.thaw)
            env = self._environment(store)
            keys = self._set_up()
            self.nemesis = Nemesis(
                random.Random(self.plan.seed), store, env, workers=self.plan.workers, lease=LEASE
            )
            stack.callback(self.nemesis.close)
            self.nemesis.fill()
            sampler = Sampler(store, keys)
            sampler.start()
            stack.enter_context(watching([store]))
            producers = [self._producer(number, env) for number in range(PRODUCERS)]
            for producer in producers:
                stack.callback(producer.kill)
            self.nemesis.strike_for(self.plan.seconds, self.plan.kills, self._forget_mutex)
            self.nemesis.rest()
            for producer in producers:
                producer.stop()
            self._end(keys)
            sampler.finish()
            return history.read(self.directory)

    def _environment(self, store: RedisServer) -> dict[str, str]:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CELERY_BROKER_URL": self.broker.database(0),
            "CELERY_RESULT_BACKEND": self.broker.database(1),
            "TEST_REDIS_URL": store.url,
            "TEST_LOCK_TIMEOUT": str(LEASE),
            "TEST_VISIBILITY_TIMEOUT": str(VISIBILITY),
            history.DIRECTORY: str(self.directory),
        }
        os.environ.update(env)
        return {**os.environ, **env}

    def _set_up(self) -> dict[str, str]:
        """Set Django up in this process; returns the key of each claim in the store."""
        from tests.chaos.producer import listen

        listen()
        from django_celery_extensions import keys as key_rules
        from django_celery_extensions.config import settings
        from tests.chaos import tasks

        note(
            "setup",
            lease=LEASE,
            stale=tasks.STALE,
            kinds={name: kind.traits for name, kind in tasks.KINDS.items()},
        )
        from django.core.cache import cache

        claim_keys = {}
        for key in tasks.every_key():
            task = tasks.TASKS[key.partition(":")[0]]
            name = key_rules.unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, (key, {}), {})
            claim_keys[key] = str(cache.make_key(key_rules.claim_key(name)))
        return claim_keys

    def _producer(self, number: int, env: dict[str, str]) -> Process:
        command = [
            sys.executable,
            "-m",
            "tests.chaos.producer",
            str(self.plan.seed + 100 * number),
            str(THREADS),
        ]
        return Process(command, log=self.directory / f"producer-{number}.log", env=env)

    def _forget_mutex(self) -> None:
        # A worker that is killed while it looks for lost messages keeps all others from it for five minutes.
        with self.broker.client(0) as client:
            client.delete("unacked_mutex")

    def _end(self, keys: dict[str, str]) -> None:
        """Wait until all is worked off and every key is free; then call each once more."""
        from tests.chaos.producer import call
        from tests.chaos.tasks import TASKS, every_key

        self._wait_for_quiet()
        self._wait_for_keys()
        for key in every_key():
            kind = key.partition(":")[0]
            outcome = call(TASKS[kind], kind, key, {"works": 0.01})
            note("probe", key=key, out=outcome)
        self._wait_for_quiet()
        self._wait_for_keys()
        for event in history.read(self.directory):
            if event["e"] == "call" and event["out"] == "triggered":
                state = TASKS[event["kind"]].AsyncResult(event["task"]).state
                note("state", task=event["task"], state=state)

    def _wait_for_quiet(self) -> None:
        ends = monotonic() + QUIET
        quiet = 0
        while quiet < 3:
            self._forget_mutex()
            quiet = quiet + 1 if self._idle() else 0
            if monotonic() > ends:
                note("never quiet", running=[*self._running()])
                return
            self.nemesis.tend()
            time.sleep(0.3)
        note("quiet")

    def _idle(self) -> bool:
        with self.broker.client(0) as client:
            waiting = client.llen("celery") + client.hlen("unacked")
        return not waiting and not any(self._running())

    def _running(self) -> Iterator[int]:
        """Yield the processes that are in a body."""
        inside: dict[tuple[str, int, float], int] = {}
        for event in history.read(self.directory):
            if event["e"] in ("start", "end"):
                run = (event["task"], event["pid"], event["fence"])
                if event["e"] == "start":
                    inside[run] = event["pid"]
                else:
                    inside.pop(run, None)
        yield from (pid for pid in inside.values() if Path(f"/proc/{pid}").exists())

    def _wait_for_keys(self) -> None:
        from tests.chaos.tasks import STALE, TASKS, every_key

        began = monotonic()
        blocked = every_key()
        while blocked and monotonic() < began + STALE + 10:
            for key in [*blocked]:
                if not TASKS[key.partition(":")[0]].is_processing((key, {})):
                    note("free", key=key, after=monotonic() - began)
                    blocked.remove(key)
            time.sleep(0.05)
        for key in blocked:
            note("blocked", key=key)
