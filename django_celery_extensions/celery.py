"""A Celery app whose tasks are ``DjangoTask`` by default, and queues with defaults for their tasks."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from celery import Celery as BaseCelery

if TYPE_CHECKING:
    from collections.abc import Mapping


class Celery(BaseCelery):
    """``celery.Celery`` with ``DjangoTask`` as the default base class of its tasks."""

    task_cls: str = "django_celery_extensions.task:DjangoTask"


class CeleryQueueEnum(str, Enum):
    """An enum of queues, each with default options for its tasks.

    ::

        class Queue(CeleryQueueEnum):
            FAST = "fast", {"time_limit": 10}
            SLOW = "slow"

        @app.task(queue=Queue.FAST)
        def f(): ...
    """

    default_task_kwargs: Mapping[str, Any]

    def __new__(  # noqa: PYI034 - Self needs Python 3.11
        cls, queue_name: str, default_task_kwargs: Mapping[str, Any] | None = None
    ) -> CeleryQueueEnum:
        """Create a member from the name of a queue, and the default options of its tasks."""
        member = str.__new__(cls, queue_name)
        member._value_ = queue_name
        member.default_task_kwargs = dict(default_task_kwargs or {})
        return member

    @property
    def queue_name(self) -> str:
        """Name of the queue."""
        return str(self.value)

    def __str__(self) -> str:
        return self.queue_name
