"""Where an ending is played: a worker, a key of its own, and the store that tells who holds it."""

from __future__ import annotations

import os
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django_celery_extensions.config import settings
from django_celery_extensions.keys import unique_name
from django_celery_extensions.stores import claim_store
from tests.endings import tasks
from tests.project import journal
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.result import AsyncResult

    from django_celery_extensions.stores.base import Holding
    from tests.workers import Worker

#: Seconds after which a case is given up.
PATIENCE = 25.0


class Stage:
    """One case on one worker; `send`, then something happens, then `settled` tells after how many ms."""

    def __init__(self, worker: Worker, make_worker: Callable[[], Worker] | None = None) -> None:
        self.worker = worker
        self._make_worker = make_worker
        self.key = uuid.uuid4().hex
        #: Nobody consumes this queue until the worker is told to.
        self.parked = f"parked-{self.key}"
        self.store = claim_store(eager=True)
        self.name = ""
        self.result: AsyncResult[Any]

    def send(self, how: str, task: Any = tasks.ending, **options: Any) -> AsyncResult[Any]:
        """Send the task that holds the key from now on."""
        self.name = unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, (self.key, how), {})
        self.result = task.apply_async((self.key, how), **options)
        if task in (tasks.ending, tasks.ending_late):  # the others end before one can look
            held = self.holder
            assert held is not None
            assert held.task_id == self.result.id
        return self.result

    @property
    def holder(self) -> Holding | None:
        return self.store.holding(self.name)

    def started(self, times: int = 1) -> None:
        """Wait until the body runs (for the n-th time)."""
        wait_until(
            lambda: len(self._lines("start")) >= times,
            PATIENCE,
            what=lambda: f"the body runs; {self.worker.log()}",
        )

    def go(self, times: int = 1) -> None:
        """Let the body go on."""
        journal.open_gate(self.key, times)

    def play(self, how: str, task: Any = tasks.ending, **options: Any) -> float:
        """Send the task, let it run, and tell when its claim was settled."""
        self.send(how, task, **options)
        self.go(times=3)
        return self.settled()

    def left(self) -> float | None:
        """The moment at which the body ended, if it has."""
        lines = self._lines("leaving")
        return lines[-1][2] if lines else None

    def settled(self, since: Callable[[], float | None] | float | None = None) -> float:
        """Wait until the claim is settled; ms since the task ended (or the moment that is given).

        A claim that is settled before the task ended is an error.
        """
        if since is None:
            since = self.left
        deadline = time.monotonic() + PATIENCE
        while True:
            held = self.holder
            now = time.time()
            if held is None or held.task_id != self.result.id:
                break
            if time.monotonic() > deadline:
                msg = f"{held} is not settled within {PATIENCE:g} s; {self.worker.log()[-3000:]}"
                raise AssertionError(msg)
            time.sleep(0.001)
        ended = since() if callable(since) else since
        if ended is None or ended > now:
            msg = f"the claim is gone before the task has ended; {self.worker.log()[-3000:]}"
            raise AssertionError(msg)
        return (now - ended) * 1000

    def consume_parked(self) -> None:
        """Let the worker take what waits in the parked queue."""
        replies = self._ask("add_consumer", queue=self.parked)
        assert replies, self.worker.log()

    def received(self) -> float | None:
        """The moment at which the worker received the message, as its log tells it."""
        for line in self.worker.log().splitlines():
            if f"[{self.result.id}] received" in line:
                return datetime.strptime(line[1:24], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
        return None

    def signal(self, number: int) -> None:
        """Send a signal to the worker's main process only."""
        os.kill(self.worker.pid, number)

    def next_worker(self) -> None:
        """Start another worker, after the first has ended."""
        assert self._make_worker is not None
        self.worker = self._make_worker()

    def has_message(self) -> bool:
        """Tell whether the broker still has the message of the task, taken by a worker or not."""
        with tasks.app.connection_for_read() as connection:
            client = connection.default_channel.client
            messages = [*client.lrange("celery", 0, -1), *client.hvals("unacked")]
        return any(self.result.id.encode() in message for message in messages)

    def is_active(self) -> bool:
        """Tell whether the worker still has the task in hand."""
        (reply,) = self._ask("active")
        return any(request["id"] == self.result.id for request in reply[self.worker.hostname])

    def _ask(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        # `limit`: back as soon as the one worker has answered.
        replies: list[dict[str, Any]] = tasks.app.control.broadcast(
            command,
            arguments=arguments,
            reply=True,
            destination=[self.worker.hostname],
            limit=1,
            timeout=10,
        )
        return replies

    def _lines(self, event: str) -> list[list[Any]]:
        return [line for line in journal.read(event) if line[1] == self.key]
