"""Distributed locks, semaphores and mutexes, in tasks and elsewhere.

::

    @app.task(base=LockTask, bind=True)
    def import_feed(self, url):
        with self.lock(url) as lock:
            if lock:
                Feed.objects.import_feed(url)

A lock is renewed as long as its process lives, and expires soon after the process has died. Locks are not reentrant: a
lock inside the same lock waits for itself.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from celery.app.task import Task

from django_celery_extensions.acquisition import HeldLease, Hold, Wish, acquire, checked, make_wish, run_of
from django_celery_extensions.exceptions import InvalidOption, StoreUnavailable, TaskConfigurationError
from django_celery_extensions.keys import lease_name
from django_celery_extensions.mutex import MUTEX, check_mutex, put_mutex
from django_celery_extensions.options import is_call_option
from django_celery_extensions.stores import lease_store
from django_celery_extensions.stores.leases import Holder
from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from celery import Celery
    from typing_extensions import Self

__all__ = ["HeldLease", "Holder", "LockTask", "MutexTask", "evict", "holders", "lock", "semaphore"]

_RETRY_OPTIONS = frozenset(inspect.signature(DjangoTask.retry).parameters) - {"self", "options"}


def lock(
    name: str,
    *args: Any,
    blocking: bool = False,
    timeout: float | None = None,
    identifier: str | None = None,
    lease_timeout: float | timedelta | None = None,
) -> Hold:
    """Hold the lock ``name``, refined by ``args``, in code outside of tasks. Yields a lease, or False if it is taken.

    ``blocking``: wait for it, at most ``timeout`` seconds (None: for ever). ``identifier``: who holds it, for people
    who list holders. ``lease_timeout``: seconds the lock outlives a dead process; the default is the setting
    LOCK_TIMEOUT. ``lock(task.name, a)`` is the lock that ``self.lock(a)`` takes in that task.

    Raises ``StoreUnavailable`` if the store can't be reached, and ``InvalidOption`` for options that contradict each
    other.
    """
    wish = make_wish(
        "lock",
        name,
        args,
        blocking=blocking,
        timeout=timeout,
        lease_timeout=lease_timeout,
    )
    return Hold(wish, checked(identifier, wish.name))


def semaphore(
    name: str,
    *args: Any,
    max_leases: int = 1,
    blocking: bool = False,
    timeout: float | None = None,
    identifier: str | None = None,
    lease_timeout: float | timedelta | None = None,
) -> Hold:
    """Hold one of the ``max_leases`` slots of the semaphore ``name``. Everything else is as in :func:`lock`.

    Also raises ``HolderLimitConflict`` if others hold it with a different ``max_leases``.
    """
    wish = make_wish(
        "semaphore",
        name,
        args,
        max_leases=max_leases,
        blocking=blocking,
        timeout=timeout,
        lease_timeout=lease_timeout,
    )
    return Hold(wish, checked(identifier, wish.name))


def holders(name: str, *args: Any, kind: str = "lock") -> Sequence[Holder]:
    """Return who holds a lock, earliest first; ``kind`` is ``"lock"``, ``"semaphore"`` or ``"mutex"``.

    For a mutex, ``name`` is the name of the task, and ``args`` are the values of its ``mutex_keys``.

    Raises ``InvalidOption`` for another ``kind``, and ``StoreUnavailable`` if the store can't be reached.
    """
    if kind not in _KINDS:
        msg = f"kind is {kind!r}; it can be {', '.join(map(repr, _KINDS))}"
        raise InvalidOption(msg)
    return lease_store(eager=True).holders(lease_name(kind, name, args))


_KINDS = ("lock", "semaphore", "mutex")


def evict(holder: Holder) -> bool:
    """Take a lock away from its holder, so that the next one can have it. Returns False if it was not held any more.

    The holder carries on until it checks its lease; only a resource that compares fences is safe from it.

    Raises ``StoreUnavailable`` if the store can't be reached.
    """
    return lease_store(eager=True).evict(holder)


class LockTask(DjangoTask):
    """Base class for tasks that hold locks: ``@app.task(base=LockTask, bind=True)``."""

    abstract = True

    def lock(
        self,
        *args: Any,
        blocking: bool = False,
        timeout: float | None = None,
        retry: bool = False,
        identifier: str | None = None,
        **retry_options: Any,
    ) -> Hold:
        """Hold the lock of this task, refined by ``args``. Yields a lease, or False if somebody else holds it.

        ``blocking``: wait for it, at most ``timeout`` seconds (None: for ever). ``retry``: retry the task if the lock is
        not free, with ``retry_options`` (``countdown``, ``max_retries`` …); has no effect with ``blocking``.
        ``identifier``: who holds it, for people who list holders; the default is the task id and the host name.

        Raises ``StoreUnavailable`` if the store can't be reached (with ``retry``, the task is retried instead),
        ``InvalidOption`` for options that contradict each other, and ``TaskConfigurationError`` outside a run of the
        task.
        """
        options = {"blocking": blocking, "timeout": timeout}
        return self._hold("lock", args, options, identifier, retry, retry_options)

    def semaphore(
        self,
        *args: Any,
        max_leases: int = 1,
        blocking: bool = False,
        timeout: float | None = None,
        retry: bool = False,
        identifier: str | None = None,
        **retry_options: Any,
    ) -> Hold:
        """Hold one of the ``max_leases`` slots of this task's semaphore. Everything else is as in :meth:`lock`.

        Also raises ``HolderLimitConflict`` if others hold it with a different ``max_leases``.
        """
        options = {"max_leases": max_leases, "blocking": blocking, "timeout": timeout}
        return self._hold("semaphore", args, options, identifier, retry, retry_options)

    def _hold(
        self,
        kind: str,
        args: Sequence[Any],
        options: dict[str, Any],
        identifier: str | None,
        retry: bool,
        retry_options: dict[str, Any],
    ) -> Hold:
        request: Any = self.request_stack.top
        if request is None:
            msg = (
                f"{self.name}.{kind}() was called outside of a run of the task; "
                f"use django_celery_extensions.locks.{kind}({self.name!r}, …) there"
            )
            raise TaskConfigurationError(msg)
        alone = bool(request.is_eager)
        wish = make_wish(kind, str(self.name), args, lease_timeout=self.policy.lease, alone=alone, **options)
        owner = checked(identifier, wish.name) or run_of(request)
        if retry_options:
            self._check_retry(kind, retry or wish.blocking, retry_options)
        return (
            _HoldOrRetry(wish, owner, self, retry_options)
            if retry and not wish.blocking
            else Hold(wish, owner)
        )

    def _check_retry(self, kind: str, possible: bool, retry_options: dict[str, Any]) -> None:
        if not possible:
            msg = f"{self.name}: {', '.join(retry_options)} of {kind}() are options of a retry; give retry=True too"
            raise InvalidOption(msg)
        for option in retry_options:
            if option not in _RETRY_OPTIONS and not is_call_option(option):
                msg = f"{self.name}: {kind}() has no option {option!r}, and neither has a retry"
                raise InvalidOption(msg)


class _HoldOrRetry(Hold):
    """Retries the task if somebody else holds the lock, or the store can't be reached."""

    def __init__(self, wish: Wish, owner: str, task: LockTask, options: dict[str, Any]) -> None:
        super().__init__(wish, owner)
        self._task, self._options = task, options

    def _recreate_cm(self) -> Self:
        return self

    def _acquire(self, wish: Wish, owner: str | None) -> HeldLease:
        try:
            lease = acquire(wish, owner)
        except StoreUnavailable as exc:
            raise self._task.retry(**{"exc": exc, **self._options}) from exc
        if lease is None:
            raise self._task.retry(**self._options)
        return lease


class MutexTask(LockTask):
    """Base class for tasks that run one at a time: ``@app.task(base=MutexTask)``.

    If another run holds the mutex, a run ends with Celery's ``Reject``. With ``mutex_requeue`` it comes back later
    instead, after a delay that grows from 0.1 to 5 seconds, without using up a retry. A run that others depend on
    (chain, group, chord, callbacks) always comes back, because rejecting it would leave them hanging.
    """

    abstract = True

    #: Names of the arguments that refine the mutex; calls with different values may run at the same time.
    mutex_keys: Sequence[str] = ()
    #: Run later, instead of being rejected.
    mutex_requeue: bool = False

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        """Bind the class to its app, and put the mutex around its body and its claim."""
        super().bind(app)
        if cls.run is not Task.run:
            check_mutex(object.__new__(cls))
            put_mutex(cls)
        return app

    @property
    def mutex(self) -> HeldLease:
        """The mutex of the current run, with ``.fence``, ``.lost`` and ``.ensure()``.

        Raises ``TaskConfigurationError`` outside a run of the task in a worker.
        """
        lease = getattr(self.request, MUTEX, None)
        if lease is None:
            msg = f"{self.name} holds no mutex here: that is so only in a run of the task by a worker"
            raise TaskConfigurationError(msg)
        mutex: HeldLease = lease
        return mutex
