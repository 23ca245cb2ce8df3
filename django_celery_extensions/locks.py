"""Distributed locks, semaphores and mutexes: for tasks, and for code that is none.

::

    @app.task(base=LockTask, bind=True)
    def import_feed(self, url):
        with self.lock(url) as lock:
            if lock:
                Feed.objects.import_feed(url)

A lock is renewed while its process lives and ends soon after it died. None of them can be taken twice by the same
holder: a lock within itself waits for itself.
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
    """Hold the lock ``name``, refined by ``args``, in code that is no task; yields a lease, or False.

    ``blocking`` waits for it, ``timeout`` seconds at most. ``lease_timeout``: seconds that the lock outlives a dead
    process (the setting LOCK_TIMEOUT). ``lock(task.name, a)`` is the lock that ``self.lock(a)`` takes in that task.

    Raises ``StoreUnavailable``, ``InvalidOption`` for options that don't go together.
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
    """The same for one of ``max_leases`` slots of the semaphore ``name``.

    Raises also ``HolderLimitConflict`` while it is held with another ``max_leases``.
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
    """Return who holds a lock, semaphore or mutex (``kind``), the earliest first.

    For a mutex ``name`` is the task's, and ``args`` are the values of its ``mutex_keys``.
    """
    if kind not in _KINDS:
        msg = f"kind is {kind!r}; it can be {', '.join(map(repr, _KINDS))}"
        raise InvalidOption(msg)
    return lease_store(eager=True).holders(lease_name(kind, name, args))


_KINDS = ("lock", "semaphore", "mutex")


def evict(holder: Holder) -> bool:
    """End somebody's holding by force, and let the next one have it; returns whether it was still held.

    The holder goes on until it looks at its lease: only a resource that compares fences is safe from it.
    """
    return lease_store(eager=True).evict(holder)


class LockTask(DjangoTask):
    """Base class of tasks that hold locks: ``@app.task(base=LockTask, bind=True)``."""

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
        """Hold the lock of this task, refined by ``args``; yields a lease, or False where others hold it.

        ``blocking`` waits for it, ``timeout`` seconds at most. ``retry`` retries the task where it is not free, with
        ``retry_options`` (``countdown``, ``max_retries`` …); ``blocking`` forces it to False. ``identifier`` names the
        holder for people who list holders; the default is the task id and the host name.

        Raises ``StoreUnavailable`` (with ``retry``: retries the task), ``InvalidOption`` for options that don't go
        together, ``TaskConfigurationError`` outside of a run of the task.
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
        """Hold one of ``max_leases`` slots of the semaphore of this task; everything else as in :meth:`lock`.

        Raises also ``HolderLimitConflict`` while it is held with another ``max_leases``.
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
    """Retries the task where others hold what is wished for, or its store can't be reached."""

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
    """Base class of tasks of which one runs at a time: ``@app.task(base=MutexTask)``.

    While one runs, another run ends with Celery's ``Reject``; with ``mutex_requeue`` it comes back later, after a
    delay that grows to five seconds, and costs no retry. A run that others depend on (chain, group, chord, callbacks)
    always comes back later: rejected it would leave them hanging.
    """

    abstract = True

    #: Names of the arguments that refine the mutex; calls that differ in them may run at once.
    mutex_keys: Sequence[str] = ()
    #: Run later instead of being rejected.
    mutex_requeue: bool = False

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        """Bind the class to its app; the mutex is put around its body, and around its claim."""
        super().bind(app)
        if cls.run is not Task.run:
            check_mutex(object.__new__(cls))
            put_mutex(cls)
        return app

    @property
    def mutex(self) -> HeldLease:
        """The mutex that the run which asks holds: ``.fence``, ``.lost``, ``.ensure()``.

        Raises ``TaskConfigurationError`` outside of a run of the task by a worker.
        """
        lease = getattr(self.request, MUTEX, None)
        if lease is None:
            msg = f"{self.name} holds no mutex here: that is so only in a run of the task by a worker"
            raise TaskConfigurationError(msg)
        mutex: HeldLease = lease
        return mutex
