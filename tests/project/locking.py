"""Tasks that hold locks, semaphores and mutexes; what their bodies do stands in the journal."""

from __future__ import annotations

import time
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from django_celery_extensions.locks import LockTask, MutexTask
from tests.project import journal
from tests.project.celery import app

# As the pages of ZKCelery show them (seeds/001_193a3dbe84e9860e.txt).


@app.task(base=LockTask, bind=True)
def locking_task(self: Any, data: str) -> str:
    with self.lock() as lock_acquired:
        if lock_acquired:
            return inside("done", data)
    return "held"


@app.task(base=LockTask, bind=True)
def refined(self: Any, a: Any, data: str) -> str:
    with self.lock(a, retry=True, countdown=0.2, max_retries=50):
        return inside("done", data)


@app.task(base=LockTask, bind=True)
def retried_once(self: Any, data: str) -> str:
    with self.lock(retry=True, countdown=0.3, max_retries=1):
        return inside("done", data)


@app.task(base=LockTask, bind=True)
def blocking(self: Any, data: str, timeout: float | None = None) -> str:
    with self.lock(blocking=True, timeout=timeout) as lock:
        if not lock:
            return "waited in vain"
        return inside("done", data)


@app.task(base=LockTask, bind=True)
def three_at_once(self: Any, data: str) -> str:
    with self.semaphore(max_leases=3) as lease:
        return inside("done", data) if lease else "held"


@app.task(base=MutexTask, bind=True)
def mutex_task(self: Any, data: str) -> str:
    return inside("done", data)


@app.task(base=MutexTask, mutex_requeue=True)
def mutex_requeued(data: str) -> str:
    return inside("done", data)


@app.task(base=MutexTask, mutex_keys=("server_name",))
def mutex_per_server(server_name: str, data: str) -> str:
    return inside("done", data)


# Beyond those.


@app.task(base=MutexTask, bind=True, mutex_requeue=True, acks_late=True, default_retry_delays=(0.1, 0.1))
def requeued_late(self: Any, data: str, failures: int = 0) -> str:
    inside("try", data, self.request.retries)
    if self.request.retries < failures:
        raise self.retry()
    return data


@app.task(base=MutexTask, unique=True, unique_until="start", mutex_requeue=True, stale_time_limit=2)
def one_and_one(data: str) -> str:
    return inside("done", data)


@app.task(base=LockTask, bind=True)
def ends_within_lock(self: Any, how: str) -> str:
    """End within the lock in the way that is asked for."""
    with self.lock() as lock:
        journal.write("start", how, lock.fence)
        if how == "error":
            raise ValueError(how)
        if how == "retry" and self.request.retries == 0:
            raise self.retry(countdown=30)
        if how in ("hang", "soft"):
            try:
                time.sleep(60)
            except SoftTimeLimitExceeded:
                return "soft"
        return how


@app.task(base=LockTask, bind=True)
def watches_its_lock(self: Any, data: str) -> str:
    """Hold the lock until the gate opens or the lock is lost."""
    with self.lock() as lock:
        journal.write("start", data, lock.fence)
        for _ in range(1200):
            if lock.lost:
                journal.write("lost", data)
                return "lost"
            if journal.gate_is_open(data):
                return "done"
            time.sleep(0.02)
    return "tired"


def inside(answer: str, *values: Any) -> str:
    """Be in the protected part until the gate of the first value opens ("free…": not at all)."""
    journal.write("start", *values)
    if not str(values[0]).startswith("free"):
        journal.wait_for_gate(values[0])
    journal.write("end", *values)
    return answer
