"""The tasks of the usage page, as bare of annotations as they stand there."""

# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from typing import Any

from django_celery_extensions.task import DjangoTask
from tests.project import journal
from tests.project.celery import app as celery_app

timeouts: list[Any] = []


class NotifyException(Exception):
    pass


@celery_app.task(base=DjangoTask, bind=True)
def notify_user(self, user_pk):
    return isinstance(user_pk, int)


class CustomTask(DjangoTask):
    def on_invocation_timeout(self, invocation_id, args, kwargs, task_id, ex, options, result):
        timeouts.append((invocation_id, args, task_id, ex))


@celery_app.task(base=CustomTask)
def notify_user_with_hooks(user_pk):
    return True


@celery_app.task(
    base=DjangoTask, bind=True, autoretry_for=(NotifyException,), default_retry_delays=(60, 120, 180)
)
def notify_user_with_delays(self, user_pk):
    raise NotifyException


@celery_app.task(base=DjangoTask, bind=True, unique=True, stale_time_limit=60)
def notify_user_unique(self, user_pk):
    journal.wait_for_gate("notify")
    return True


def custom_unique_key_generator(task, prefix, task_args, task_kwargs):
    return "custome unique_key"


@celery_app.task(base=DjangoTask, bind=True, unique=True, unique_key_generator=custom_unique_key_generator)
def notify_user_custom_key(self, user_pk):
    return True
