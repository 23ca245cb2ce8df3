"""The mutex of a ``MutexTask``. A run takes it first of all, even before its claim.

So a message that has to come back is still the one queued task of its key (with ``unique_until="start"``): at most one
runs, and at most one is queued.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from celery.app.trace import task_has_custom
from celery.exceptions import Reject

from django_celery_extensions.acquisition import HeldLease, acquire, give_back, make_wish, run_of
from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.execution import come_back, patiently
from django_celery_extensions.invocation import request_in_canvas
from django_celery_extensions.keys import check_argument_names, named_arguments

if TYPE_CHECKING:
    from celery.app.task import Context

    from django_celery_extensions.locks import MutexTask

#: Name in a request of the mutex that its run holds.
MUTEX = "dce_mutex"


def put_mutex(cls: type[MutexTask]) -> None:
    """Put the mutex around the body of a task, on the task's own class (see ``guard.guard``)."""
    inherited = cls.__call__
    if getattr(inherited, "alone", False):
        return
    custom = task_has_custom(object.__new__(cls), "__call__")

    def __call__(self: MutexTask, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        request: Any = self.request_stack.top
        if request is None or request.called_directly or MUTEX in vars(request):
            return inherited(self, *args, **kwargs)  # a plain call, also of itself from its own body
        lease = enter(self, request, args, kwargs)
        setattr(request, MUTEX, lease)
        try:
            return inherited(self, *args, **kwargs) if custom else self.run(*args, **kwargs)
        finally:
            give_back(lease)

    __call__.alone = True  # type: ignore[attr-defined]
    cls.__call__ = __call__  # type: ignore[method-assign, assignment]


def enter(task: MutexTask, request: Context, args: Any, kwargs: Any) -> HeldLease:
    """Take the mutex for a run. If that is impossible, raise what ends the run: ``Reject``, or a message to come back."""
    wish = make_wish(
        "mutex",
        str(task.name),
        mutex_values(task, args, kwargs),
        lease_timeout=task.policy.lease,
        alone=bool(request.is_eager),
    )
    # Rejected, a run that others depend on would leave them hanging.
    later = (task.mutex_requeue or request_in_canvas(request)) and not request.is_eager
    try:
        _, lease = patiently(partial(acquire, wish, run_of(request)))
    except StoreUnavailable as exc:
        if not later:
            raise
        raise come_back(task, request, str(exc)) from exc
    if lease is not None:
        held: HeldLease = lease
        return held
    why = f"{wish.name} is held"
    if later:
        raise come_back(task, request, why)
    raise Reject(why, requeue=False)


def mutex_values(task: MutexTask, args: Any, kwargs: Any) -> list[Any]:
    """Return the values of those arguments of a call that refine the mutex."""
    if not task.mutex_keys:
        return []
    return [*named_arguments(task, args, kwargs, task.mutex_keys).values()]


def check_mutex(task: MutexTask) -> None:
    """Raise :class:`TaskConfigurationError` for invalid options."""
    check_argument_names(task, "mutex_keys", task.mutex_keys)
    if task.mutex_requeue not in (False, True):
        msg = f"{task.name}: mutex_requeue is {task.mutex_requeue!r}; it can be False, True"
        raise TaskConfigurationError(msg)
