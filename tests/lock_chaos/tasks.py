"""The tasks of the run, which hold locks in the processes of prefork workers."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from django_celery_extensions.locks import LockTask, MutexTask
from tests.lock_chaos import broken
from tests.lock_chaos.holding import attempt, describe, hold, observe
from tests.lock_chaos.targets import LOCK_TASK, MUTEX_TASK, REQUEUED_TASK, TARGETS, Target
from tests.project.celery import app

broken.apply()
observe()


@app.task(base=LockTask, bind=True, name=LOCK_TASK)
def locked(self: Any, label: str, plan: dict[str, Any], options: dict[str, Any]) -> None:
    target = TARGETS[label]
    ask = self.lock if target.kind == "lock" else partial(self.semaphore, max_leases=target.most)
    attempt(target, os.getppid(), partial(ask, target.argument), plan, **options)


@app.task(base=MutexTask, bind=True, name=MUTEX_TASK, mutex_keys=("argument",))
def mutex(self: Any, argument: int, plan: dict[str, Any]) -> None:
    _hold_mutex(self, argument, plan)


@app.task(
    base=MutexTask,
    bind=True,
    name=REQUEUED_TASK,
    mutex_keys=("argument",),
    mutex_requeue=True,
    acks_late=True,
)
def requeued(self: Any, argument: int, plan: dict[str, Any]) -> None:
    _hold_mutex(self, argument, plan)


def _hold_mutex(task: Any, argument: int, plan: dict[str, Any]) -> None:
    target = Target(kind="mutex", name=task.name, argument=argument)
    hold(task.mutex, describe(target, os.getppid()), plan, target.most)
