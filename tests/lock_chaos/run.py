"""One run: servers, clients, workers, the nemesis, and at the end the look at what is free."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.chaos import history
from tests.chaos.history import note
from tests.chaos.observer import watching
from tests.lock_chaos import register
from tests.lock_chaos.broken import VARIABLE
from tests.lock_chaos.holding import planned, waiting
from tests.lock_chaos.nemesis import LockNemesis, ZooKeeperNemesis
from tests.lock_chaos.register import BARE
from tests.lock_chaos.targets import TARGETS
from tests.servers import RedisServer
from tests.servers_zookeeper import ZooKeeperEnsemble

if TYPE_CHECKING:
    from celery import Celery

#: Messages that wait for a worker.
WAITING = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to do harm, how often to kill at least, and what chance to have."""

    store: str
    seconds: float
    kills: int
    seed: int
    clients: int = 8
    workers: int = 2
    lease: float = 2.0
    #: What is broken on purpose (see `broken`).
    broken: str = ""


class Feeder(threading.Thread):
    """Keeps the workers busy."""

    def __init__(self, app: Celery, broker: RedisServer, seed: int) -> None:
        super().__init__(daemon=True)
        self._app, self._broker, self._chance = app, broker, random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        with self._broker.client() as client:
            while not self._over.wait(0.05):
                if client.llen("celery") < WAITING:
                    self._send()
            client.delete("celery")  # nothing is begun any more

    def _send(self) -> None:
        chance, plan = self._chance, planned(self._chance)
        target = chance.choice([target for target in TARGETS.values() if target.of_task])
        if target.kind == "mutex":
            self._app.send_task(target.name, (target.argument, plan))
            return
        options = waiting(chance)
        if not options and chance.random() < 0.5:
            options = {"retry": True, "countdown": 0.2, "max_retries": 3}
        self._app.send_task(target.name, (target.label, plan, options))

    def finish(self) -> None:
        self._over.set()
        self.join()


class LockChaos:
    """The run, from the start of its servers to the end of its last client."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.directory = Path(tempfile.mkdtemp(prefix="dce-lock-chaos-"))
        self.nemesis: LockNemesis

    def run(self) -> list[history.Event]:
        """Do it all and return the history."""
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            broker = stack.enter_context(RedisServer())
            resource = stack.enter_context(RedisServer())
            store = self._store(stack)
            env = self._environment(broker, resource, store)
            app = self._set_up()
            nemesis = ZooKeeperNemesis if self.plan.store == "zookeeper" else LockNemesis
            self.nemesis = nemesis(
                random.Random(self.plan.seed),
                store,
                env,
                clients=self.plan.clients,
                workers=self.plan.workers,
                lease=self.plan.lease,
                directory=self.directory,
            )
            stack.callback(self.nemesis.close)
            self.nemesis.fill()
            feeder = Feeder(app, broker, self.plan.seed)
            feeder.start()
            stack.enter_context(watching(store.members if isinstance(store, ZooKeeperEnsemble) else [store]))
            self.nemesis.strike_for(self.plan.seconds, self.plan.kills)
            self.nemesis.rest()
            time.sleep(self.plan.lease)
            feeder.finish()
            self.nemesis.stop()
            self._end()
            return history.read(self.directory)

    def _store(self, stack: ExitStack) -> RedisServer | ZooKeeperEnsemble:
        if self.plan.store == "zookeeper":
            return stack.enter_context(ZooKeeperEnsemble())
        # What it acknowledged is on disk, so that a kill takes nothing from it.
        store = stack.enter_context(RedisServer("--appendonly", "yes", "--appendfsync", "always"))
        stack.callback(store.thaw)
        return store

    def _environment(
        self, broker: RedisServer, resource: RedisServer, store: RedisServer | ZooKeeperEnsemble
    ) -> dict[str, str]:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.lock_chaos.settings",
            "CELERY_BROKER_URL": broker.database(0),
            "CELERY_RESULT_BACKEND": broker.database(1),
            "TEST_LOCK_TIMEOUT": str(self.plan.lease),
            register.URL: resource.url,
            history.DIRECTORY: str(self.directory),
        }
        if isinstance(store, ZooKeeperEnsemble):
            env |= {"TEST_ZOOKEEPER_HOSTS": store.hosts, "TEST_REDIS_URL": broker.database(2)}
        else:
            env["TEST_REDIS_URL"] = store.url
        os.environ.update(env)
        return {**os.environ, **env, VARIABLE: self.plan.broken}

    def _set_up(self) -> Celery:
        import django

        django.setup()
        note("setup", lease=self.plan.lease, most={target.label: target.most for target in TARGETS.values()})
        from tests.project.celery import app

        return app

    def _end(self) -> None:
        """See that every name becomes free, and write the registers down."""
        began = monotonic()
        held = [*TARGETS.values()]
        while held and monotonic() < began + 5 * self.plan.lease:
            for target in [*held]:
                with contextlib.suppress(Exception):
                    if self._is_free(target):
                        note("free", name=target.label, after=monotonic() - began)
                        held.remove(target)
            time.sleep(0.05)
        if self.plan.store == "zookeeper":
            from django_celery_extensions.stores import zookeeper_session

            zookeeper_session.close()  # before its servers end
        register.note_all([*(label for label, target in TARGETS.items() if target.most == 1), BARE])

    @staticmethod
    def _is_free(target: Any) -> bool:
        """Nobody is listed as its holder, and (a mutex aside, which only tasks take) it can be held."""
        from django_celery_extensions.locks import holders

        if holders(target.name, target.argument, kind=target.kind):
            return False
        if target.kind == "mutex":
            return True
        with target.held() as lease:
            return bool(lease)
