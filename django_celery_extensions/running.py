"""The task that a worker runs in this thread, found without two exceptions for each call where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import _state
from celery.utils.threads import Local

if TYPE_CHECKING:
    from celery import Celery

#: Celery's stacks of running tasks, by thread; another kind (``USE_FAST_LOCALS``) is asked by Celery.
_stacks: Any = getattr(vars(_state)["_task_stack"], "_local", None)
_known = type(_stacks) is Local


def running_task(app: Celery) -> Any:
    """Return ``app.current_worker_task``.

    Where this thread runs none, Celery raises and catches two exceptions, which takes as long as making the key of a call.
    """
    if _known and _stacks.__ident_func__() not in _stacks.__storage__:
        return None
    return app.current_worker_task
