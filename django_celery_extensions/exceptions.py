"""All errors of this library.

Each is a :class:`CeleryError`, which is itself a ``celery.exceptions.CeleryError``. Errors of Celery, kombu and Django
are passed through unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import CeleryError as BaseCeleryError
from django.core.exceptions import ImproperlyConfigured
from django.db.transaction import TransactionManagementError

if TYPE_CHECKING:
    from collections.abc import Sequence


class CeleryError(BaseCeleryError):
    """Base class of all errors of django_celery_extensions."""


class TaskConfigurationError(CeleryError, ImproperlyConfigured):
    """A task, a setting or a cache is configured in a way that can't work."""


class InvalidOption(CeleryError, TypeError):
    """A call has an unknown option, or an option with an invalid value."""


class UnmanagedTransaction(CeleryError, TransactionManagementError):
    """Autocommit is off, so Django does not know when the transaction commits, and a call can't wait for it."""


class NotTriggeredCeleryError(CeleryError):
    """The result was requested before the transaction was committed: the task has not been sent yet."""


class ResultBackendMissing(TaskConfigurationError, NotImplementedError):
    """The result of a task is needed, but not stored: there is no result backend, or the result is ignored."""


class ResultMissing(CeleryError):
    """The task that a call joined is over, and its result did not and will not reach this caller."""


class UniqueTaskConflict(CeleryError):
    """The same task is already queued or running, as ``task_id``. Raised with ``unique_on_conflict="raise"``."""

    def __init__(self, task_name: str, task_id: str) -> None:
        super().__init__(task_name, task_id)
        self.task_name = task_name
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.task_name} is queued or running already as task {self.task_id}"


class ManyNotSent(CeleryError):
    """Not all of many calls were sent. ``__cause__`` is the error that stopped them.

    ``results`` has the result of each call, in order. ``not_sent`` has the positions of the calls that were not sent,
    ``uncertain`` of those that may or may not have been sent. The claims of both have been ended.
    """

    def __init__(
        self, task_name: str, results: Sequence[Any], not_sent: Sequence[int], uncertain: Sequence[int]
    ) -> None:
        super().__init__(task_name, results, not_sent, uncertain)
        self.task_name = task_name
        self.results = results
        self.not_sent = not_sent
        self.uncertain = uncertain

    def __str__(self) -> str:
        what = f"{len(self.not_sent)} of {len(self.results)} calls of {self.task_name} were not sent"
        if self.uncertain:
            what += f", and {len(self.uncertain)} may or may not have been"
        return what if self.__cause__ is None else f"{what}: {self.__cause__!r}"


class StaleLimitMissing(CeleryError):
    """A unique task has no stale limit, and nothing to compute one from."""


class CommandTaskError(CeleryError):
    """A management command has no task, or does not accept the arguments or options of a call."""


class StoreUnavailable(CeleryError):
    """The store of claims and locks can't be reached, so nobody knows who holds what."""


class LeaseLost(CeleryError):
    """A claim or a lock was lost: stop, or write only to what checks the fence."""


class HolderLimitConflict(CeleryError):
    """A semaphore is requested with a different ``max_leases`` than that of its holders."""

    def __init__(self, name: str, asked: int, current: int) -> None:
        super().__init__(name, asked, current)
        self.name = name
        self.asked = asked
        self.current = current

    def __str__(self) -> str:
        return (
            f"{self.name} was asked for with max_leases={self.asked}, but is held with max_leases={self.current}; "
            "give every user of a semaphore the same number, and change it while nobody holds it"
        )
