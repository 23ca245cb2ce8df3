"""Tasks whose cost is counted: one of each kind, with bodies that do nothing beside it."""

from __future__ import annotations

import sys
from math import inf
from typing import Any

from celery.app.task import Task

from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.locks import LockTask, MutexTask
from tests.project import journal
from tests.project.celery import app

_HOUR = 3600


@app.task
def plain(key: str) -> str:
    return key


@app.task(base=Task)
def of_celery(key: str) -> str:
    """A task that is none of ours."""
    return key


@app.task(unique=True)
def unique(key: str) -> str:
    return key


@app.task(unique=True, unique_on_conflict="raise")
def raising(key: str) -> str:
    return key


@app.task(unique=True, unique_on_conflict="skip")
def skipping(key: str) -> str:
    return key


@app.task(unique=True, unique_on_conflict="replace")
def replacing(key: str) -> str:
    return key


@app.task(unique=True, unique_until="start")
def until_start(key: str) -> str:
    return key


@app.task(ignore_task_after_success=True, ignore_task_timedelta=_HOUR)
def window(key: str) -> str:
    return key


@app.task(bind=True, ignore_task_timedelta=_HOUR)
def window_by_hand(self: Any, key: str) -> str:
    self.set_ignore_task()
    return key


@app.task(unique=True, ignore_task_after_success=True, ignore_task_timedelta=_HOUR)
def unique_with_window(key: str) -> str:
    return key


@app.task(bind=True, unique=True)
def retried(self: Any, key: str) -> str:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return key


@app.task(bind=True, base=LockTask)
def locked(self: Any, key: str) -> str:
    with self.lock(key) as lock:
        assert lock
    return key


@app.task(bind=True, base=LockTask)
def slotted(self: Any, key: str) -> str:
    with self.semaphore(key, max_leases=3) as lease:
        assert lease
    return key


@app.task(base=MutexTask)
def alone(key: str) -> str:
    return key


@app.task(base=MutexTask, unique=True)
def unique_and_alone(key: str) -> str:
    return key


@app.task
def sleeps() -> bool:
    """Tell whether the heartbeat of this process sleeps until somebody wakes it."""
    return heartbeat._thread is None or heartbeat._looks_at == inf


# Python calls of a delivery, in a worker that runs its tasks where it receives them.

_calls: list[int] = [0]


def _count(_frame: Any, event: str, _arg: Any) -> None:
    if event == "call":
        _calls[0] += 1


@app.task(base=Task)
def count_calls(gate: str) -> None:
    """Count from here on, once all messages are there: who waits for them calls functions as well."""
    journal.wait_for_gate(gate)
    _calls[0] = 0
    sys.setprofile(_count)


@app.task(base=Task)
def calls_counted() -> int:
    sys.setprofile(None)
    return _calls[0]
