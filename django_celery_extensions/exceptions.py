"""The one tree of errors.

Everything this library raises on its own account is a :class:`CeleryError`, which is itself a
``celery.exceptions.CeleryError``. Errors of Celery, kombu and Django pass through unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import CeleryError as BaseCeleryError
from django.core.exceptions import ImproperlyConfigured
from django.db.transaction import TransactionManagementError

if TYPE_CHECKING:
    from collections.abc import Sequence


class CeleryError(BaseCeleryError):
    """Root of the errors of django_celery_extensions."""


class TaskConfigurationError(CeleryError, ImproperlyConfigured):
    """A task, a setting or a cache is set up in a way that can't work."""


class InvalidOption(CeleryError, TypeError):
    """A call was made with an option that does not exist or a value that it can't have."""


class UnmanagedTransaction(CeleryError, TransactionManagementError):
    """Autocommit is off, so that Django does not know when the transaction commits: a call can't wait for it."""


class NotTriggeredCeleryError(CeleryError):
    """The result was asked for before the transaction committed: the task has not been sent yet."""


class ResultBackendMissing(TaskConfigurationError, NotImplementedError):
    """Something needs the result of a task, and results are not kept: there is no result backend, or it is ignored."""


class ResultMissing(CeleryError):
    """The task that a call joined is over, and its result did not reach this caller; nor will it any more."""


class UniqueTaskConflict(CeleryError):
    """The same task is queued or running already; ``task_id`` names it (``unique_on_conflict="raise"``)."""

    def __init__(self, task_name: str, task_id: str) -> None:
        super().__init__(task_name, task_id)
        self.task_name = task_name
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.task_name} is queued or running already as task {self.task_id}"


class ManyNotSent(CeleryError):
    """Not all of many calls were sent; the cause is ``__cause__``.

    ``results`` has the result of each call, in order; ``not_sent`` and ``uncertain`` are the positions of those that
    were not sent, and of those of which nobody knows whether they were. The claims of both have been ended.
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
    """A unique task has no stale limit and nothing to compute one from."""


class CommandTaskError(CeleryError):
    """A management command, or one of its options, is not there to be run as a task."""


class StoreUnavailable(CeleryError):
    """The store of claims and locks can't be reached. Nothing is known about who holds what."""


class LeaseLost(CeleryError):
    """What was held can no longer be trusted: stop, or write only what a fence protects."""


class HolderLimitConflict(CeleryError):
    """A semaphore is asked for with another ``max_leases`` than those who hold it have given."""

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
