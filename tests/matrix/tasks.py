"""The app and the tasks of a cell: `celery -A tests.matrix.tasks worker`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.matrix.settings")

from django_celery_extensions.celery import Celery
from django_celery_extensions.locks import LockTask
from tests.matrix import journal

app = Celery("tests.matrix")
app.config_from_object("django.conf:settings", namespace="CELERY")

#: Seconds of the lease of `killed`.
LEASE = 3


@app.task
def add(key: str, left: int, right: int) -> int:
    journal.write("start", key)
    return left + right


@app.task(bind=True, unique=True)
def gated(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id)
    journal.wait_for_gate(key)
    return f"{key}:{self.request.id}"


@app.task(unique=True)
def quick(key: str) -> str:
    journal.write("start", key)
    return key


@app.task(bind=True, unique=True, default_retry_delays=(0.3, 0.3), autoretry_for=(ValueError,))
def flaky(self: Any, key: str) -> str:
    """Fail, wait for the test, fail again and succeed."""
    retries = self.request.retries
    journal.write("start", key, retries)
    if retries == 1:
        journal.wait_for_gate(key)
    if retries < 2:
        raise ValueError(key)
    return key


@app.task(unique=True)
def broken(key: str) -> None:
    journal.write("start", key)
    raise LookupError(key)


@app.task(ignore_task_after_success=True, ignore_task_timedelta=timedelta(minutes=10))
def windowed(key: str) -> str:
    journal.write("start", key)
    return key


@app.task(base=LockTask, bind=True)
def locked(self: Any, key: str, call: int) -> str:
    with self.lock(key) as lock:
        journal.write("inside" if lock else "outside", key, call)
    return "done" if lock else "held"


@app.task(unique=True, lease_timeout=LEASE)
def killed(key: str) -> None:
    journal.write("start", key)
    journal.wait_for_gate(key)


@app.task
def arrive(value: Any, key: str) -> Any:
    journal.write("arrived", key, value)
    return value
