"""Tasks that the tests send.

What a body does stands in the journal: a list in the Redis of the results, one line per event.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from celery.app.task import Task
from celery.exceptions import Ignore, Reject

from django_celery_extensions.task import DjangoTask
from tests.project import journal
from tests.project.celery import app


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def process_id() -> int:
    return os.getpid()


@app.task(bind=True, unique=True)
def unique(self: Any, key: Any = None, wait: float = 0) -> Any:
    journal.write("start", key, self.request.id)
    time.sleep(wait)
    journal.write("end", key, self.request.id)
    return [key, self.request.id]


@app.task(unique=True)
def silent(key: Any = None) -> Any:
    return key


@app.task(bind=True, unique=True)
def gated(self: Any, key: str) -> str:
    """Run until the test opens the gate."""
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)
    return f"{key}:{self.request.id}"


@app.task(bind=True, unique=True, acks_late=True, reject_on_worker_lost=True)
def gated_late(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)
    return f"{key}:{self.request.id}"


@app.task(bind=True, unique=True, unique_until="start")
def until_start(self: Any, key: str) -> None:
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)


@app.task(bind=True, unique=True, unique_keys=("key",), unique_on_conflict="replace")
def latest(self: Any, key: str, text: str) -> str:
    journal.write("start", key, self.request.id, text)
    return text


@app.task(bind=True, unique=True, default_retry_delays=(0.2, 0.4), autoretry_for=(ValueError,))
def flaky(self: Any, key: str, failures: int = 2) -> str:
    journal.write("try", key, self.request.id, self.request.retries)
    if self.request.retries < failures:
        raise ValueError(key)
    return key


@app.task(bind=True, unique=True)
def ends(self: Any, how: str) -> str:
    """End in the way that is asked for."""
    journal.write("start", how, self.request.id)
    if how == "error":
        raise ValueError(how)
    if how == "ignore":
        raise Ignore
    if how == "reject":
        raise Reject(how, requeue=False)
    if how == "exit":
        raise SystemExit(1)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how in ("hard", "soft", "hang"):
        time.sleep(60)
    return how


@app.task(bind=True, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
def ignored_after_success(self: Any, key: Any = None, error: bool = False) -> Any:
    journal.write("start", key, self.request.id)
    if error:
        raise ValueError(key)
    return key


@app.task(bind=True, ignore_task_timedelta=timedelta(hours=5))
def ignored_by_hand(self: Any, key: Any = None, ignore: bool = True) -> Any:
    if ignore:
        self.set_ignore_task(ignore_task_timedelta=timedelta(hours=2))
    return key


@app.task(bind=True)
def collect(self: Any, values: Any) -> Any:
    return values


@app.task(bind=True)
def note(self: Any, *values: Any) -> Any:
    journal.write("note", *values)
    return list(values)


@app.task(bind=True, unique=True)
def watchful(self: Any, key: str) -> str:
    """Run until the gate opens or the claim is lost."""
    journal.write("start", key, self.claim.fence)
    for _ in range(600):
        if self.claim.lost:
            journal.write("lost", key)
            return "lost"
        if journal.gate_is_open(key):
            return "done"
        time.sleep(0.05)
    return "tired"


@app.task(bind=True, unique=True, acks_late=True, reject_on_worker_lost=True)
def dies_once(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    if len(journal.read("start")) == 1:
        os.kill(os.getpid(), 9)
    return "second"


class DiesSending(DjangoTask):
    """Its process is killed when it is about to send a message from within a run."""

    def send(self, args: Any, kwargs: Any, **options: Any) -> Any:
        if self.request.id:
            os.kill(os.getpid(), 9)
        return super().send(args, kwargs, **options)


@app.task(bind=True, unique=True, base=DiesSending)
def dies_resending(self: Any, key: str) -> str:
    raise self.retry(countdown=60)


@app.task(bind=True, unique=True, acks_late=True)
def requeued_once(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    if len(journal.read("start")) == 1:
        raise Reject(key, requeue=True)
    return key


@app.task(bind=True, unique=True)
def retried_after(self: Any, key: str, seconds: float, times: int = 2) -> str:
    journal.write("try", key, self.request.id, self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=seconds)
    return key


@app.task(bind=True, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
def gated_window(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)
    return key


@app.task(bind=True, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=5))
def fails_first(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    if len(journal.read("start")) == 1:
        raise ValueError(key)
    return key


@app.task(bind=True, unique=True, default_retry_delays=(0.6, 0.3))
def slow_to_fail(self: Any, key: str) -> str:
    """Fail twice, and wait so long that a second delivery of the message comes back meanwhile."""
    journal.write("try", key, self.request.id, self.request.retries)
    time.sleep(0.5)
    if self.request.retries < 2:
        raise self.retry()
    return key


@app.task(bind=True)
def fired(self: Any, *_: Any) -> None:
    """Write down which slot of which entry of beat this is."""
    slot = self.request.dce_slot
    journal.write("fired", slot["entry"], slot["slot"], self.request.id)


@app.task(bind=True, default_retry_delays=(0.1,))
def fired_and_retried(self: Any) -> None:
    slot = self.request.dce_slot
    journal.write("fired", slot["entry"], slot["slot"], self.request.id, self.request.retries)
    if not self.request.retries:
        raise self.retry()


@app.task(bind=True, base=Task)
def fired_plainly(self: Any) -> None:
    """A task that is none of ours."""
    journal.write("plain", self.request.id)
