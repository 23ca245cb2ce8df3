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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from celery.app.task import Task

from django_celery_extensions.acquisition import HeldLease, Wish, acquire, held, make_wish, run_of
from django_celery_extensions.exceptions import InvalidOption, StoreUnavailable, TaskConfigurationError
from django_celery_extensions.keys import lease_name
from django_celery_extensions.mutex import MUTEX, check_mutex, put_mutex
from django_celery_extensions.options import is_call_option
from django_celery_extensions.stores import lease_store
from django_celery_extensions.stores.leases import Holder
from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from celery import Celery

__all__ = ["HeldLease", "Holder", "LockTask", "MutexTask", "evict", "holders", "lock", "semaphore"]

_RETRY_OPTIONS = frozenset(inspect.signature(DjangoTask.retry).parameters) - {"self", "options"}


@contextmanager
def lock(
    name: str,
    *args: Any,
    blocking: bool = False,
    timeout: float | None = None,
    identifier: str | None = None,
    lease_timeout: float | timedelta | None = None,
) -> Iterator[HeldLease | Literal[False]]:
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
        identifier=identifier,
        lease_timeout=lease_timeout,
    )
    with held(acquire(wish)) as lease:
        yield lease


@contextmanager
def semaphore(
    name: str,
    *args: Any,
    max_leases: int = 1,
    blocking: bool = False,
    timeout: float | None = None,
    identifier: str | None = None,
    lease_timeout: float | timedelta | None = None,
) -> Iterator[HeldLease | Literal[False]]:
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
        identifier=identifier,
        lease_timeout=lease_timeout,
    )
    with held(acquire(wish)) as lease:
        yield lease


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

    @contextmanager
    def lock(
        self,
        *args: Any,
        blocking: bool = False,
        timeout: float | None = None,
        retry: bool = False,
        identifier: str | None = None,
        **retry_options: Any,
    ) -> Iterator[HeldLease | Literal[False]]:
        """Hold the lock of this task, refined by ``args``; yields a lease, or False where others hold it.

        ``blocking`` waits for it, ``timeout`` seconds at most. ``retry`` retries the task where it is not free, with
        ``retry_options`` (``countdown``, ``max_retries`` …); ``blocking`` forces it to False. ``identifier`` names the
        holder for people who list holders; the default is the task id and the host name.

        Raises ``StoreUnavailable`` (with ``retry``: retries the task), ``InvalidOption`` for options that don't go
        together, ``TaskConfigurationError`` outside of a run of the task.
        """
        options = {"blocking": blocking, "timeout": timeout, "identifier": identifier}
        with self._hold("lock", args, options, retry, retry_options) as lease:
            yield lease

    @contextmanager
    def semaphore(
        self,
        *args: Any,
        max_leases: int = 1,
        blocking: bool = False,
        timeout: float | None = None,
        retry: bool = False,
        identifier: str | None = None,
        **retry_options: Any,
    ) -> Iterator[HeldLease | Literal[False]]:
        """Hold one of ``max_leases`` slots of the semaphore of this task; everything else as in :meth:`lock`.

        Raises also ``HolderLimitConflict`` while it is held with another ``max_leases``.
        """
        options = {
            "max_leases": max_leases,
            "blocking": blocking,
            "timeout": timeout,
            "identifier": identifier,
        }
        with self._hold("semaphore", args, options, retry, retry_options) as lease:
            yield lease

    @contextmanager
    def _hold(
        self,
        kind: str,
        args: Sequence[Any],
        options: dict[str, Any],
        retry: bool,
        retry_options: dict[str, Any],
    ) -> Iterator[HeldLease | Literal[False]]:
        wish = self._wish(kind, args, options)
        self._check_retry(kind, retry or wish.blocking, retry_options)
        retry = retry and not wish.blocking
        try:
            lease = acquire(wish)
        except StoreUnavailable as exc:
            if not retry:
                raise
            raise self.retry(**{"exc": exc, **retry_options}) from exc
        if lease is None and retry:
            raise self.retry(**retry_options)
        with held(lease) as yielded:
            yield yielded

    def _wish(self, kind: str, args: Sequence[Any], options: dict[str, Any]) -> Wish:
        request: Any = self.request_stack.top
        if request is None:
            msg = (
                f"{self.name}.{kind}() was called outside of a run of the task; "
                f"use django_celery_extensions.locks.{kind}({self.name!r}, …) there"
            )
            raise TaskConfigurationError(msg)
        if options["identifier"] is None:
            options["identifier"] = run_of(request)
        alone = bool(request.is_eager)
        return make_wish(kind, str(self.name), args, lease_timeout=self.policy.lease, alone=alone, **options)

    def _check_retry(self, kind: str, possible: bool, retry_options: dict[str, Any]) -> None:
        if retry_options and not possible:
            msg = f"{self.name}: {', '.join(retry_options)} of {kind}() are options of a retry; give retry=True too"
            raise InvalidOption(msg)
        for option in retry_options:
            if option not in _RETRY_OPTIONS and not is_call_option(option):
                msg = f"{self.name}: {kind}() has no option {option!r}, and neither has a retry"
                raise InvalidOption(msg)


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
