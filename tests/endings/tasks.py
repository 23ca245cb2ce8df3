"""Tasks that end in the way that is asked for.

Each waits at a gate for the test, writes the moment at which it ends into the journal, and ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from celery.exceptions import Ignore, Reject
from kombu import Connection

from django_celery_extensions.task import DjangoTask
from tests.project import journal
from tests.project.celery import app

__all__ = ["app"]

#: A broker that is not there.
NOWHERE = "redis://127.0.0.1:1/0"


class Broken(Exception):
    """What a task of these fails with."""


def leave(key: str) -> None:
    journal.write("leaving", key, time.time())


def end(task: Any, key: str, how: str) -> str:
    journal.write("start", key, task.request.id, time.time())
    journal.wait_for_gate(key)
    first = task.request.retries == 0
    if how == "retry" and first:
        task.retry(countdown=0.3)
    if how == "retry exhausted" and first:
        task.retry(exc=Broken(key), countdown=0, max_retries=1)
    if how == "reject, requeue" and len(journal.read("start")) == 1:
        raise Reject(how, requeue=True)
    if how == "cling":
        cling(key)
    leave(key)
    return finish(task, key, how)


def cling(key: str) -> None:
    """Live on for as long as one is let."""
    while True:
        with contextlib.suppress(SystemExit):
            while True:
                leave(key)
                time.sleep(0.005)


def finish(task: Any, key: str, how: str) -> str:
    if how in ("failure", "retry exhausted"):
        raise Broken(key) if how == "failure" else task.retry(exc=Broken(key), max_retries=1)
    if how == "ignore":
        raise Ignore
    if how in ("reject", "reject, requeue, acked"):
        raise Reject(how, requeue=how != "reject")
    if how == "exit":
        raise SystemExit(1)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "retry unpublished":
        with Connection(NOWHERE, transport_options={"max_retries": 0}) as connection:
            task.retry(countdown=0, connection=connection, retry=False)
    if how == "replace":
        task.replace(plain.si(key))
    if how == "hang":
        time.sleep(60)
    return key


@app.task
def plain(key: str) -> str:
    return key


@app.task(bind=True, unique=True, unique_keys=("key",))
def ending(self: Any, key: str, how: str) -> str:
    return end(self, key, how)


@app.task(bind=True, unique=True, unique_keys=("key",), acks_late=True)
def ending_late(self: Any, key: str, how: str) -> str:
    return end(self, key, how)


class BadHook(DjangoTask):
    abstract = True

    def on_task_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        leave(args[0])
        raise Broken(task_id)


class BadStart(DjangoTask):
    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        leave(args[0])
        raise Broken(task_id)


@app.task(base=BadHook, unique=True, unique_keys=("key",))
def bad_hook(key: str, how: str) -> None:
    journal.write("start", key, how)


@app.task(base=BadStart, unique=True, unique_keys=("key",))
def bad_start(key: str, how: str) -> None:
    journal.write("start", key, how)
