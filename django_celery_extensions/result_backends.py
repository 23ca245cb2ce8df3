"""What a result backend can't do, and the errors that say so.

Without one (``DisabledBackend``) nobody gets a result. RPC sends each result, once, to the reply queue of the thread
that sent the message. From all others every process can read results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend

from django_celery_extensions.exceptions import ResultBackendMissing, ResultMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery.app.task import Task

#: The backend that sends a result to one caller, and once.
DELIVERS_ONCE = RPCBackend
_MISSING = "needs a result backend, and there is none: set CELERY_RESULT_BACKEND"


def is_missing(backend: Any) -> bool:
    """Tell whether there is no result backend."""
    return isinstance(backend, DisabledBackend)


def delivers_once(backend: Any) -> bool:
    """Tell whether a result goes to one caller, and once."""
    return isinstance(backend, DELIVERS_ONCE)


def readable(backend: Any) -> bool:
    """Tell whether a process can read the result of a task that another process sent."""
    conf = backend.app.conf
    unstored = conf.task_always_eager and not conf.task_store_eager_result
    return not is_missing(backend) and not delivers_once(backend) and not unstored


def require(backend: Any, task_id: str, what: str) -> None:
    """Raise :class:`ResultBackendMissing` where there is no result backend."""
    if is_missing(backend):
        raise ResultBackendMissing(f"task {task_id}: {what} {_MISSING}")


def require_result(task: Task[..., Any], options: Mapping[str, Any]) -> None:
    """Raise :class:`ResultBackendMissing` for a call that would wait for a result which nobody keeps."""
    if is_missing(task.backend):
        raise ResultBackendMissing(f"{task.name}: apply_async_and_get_result() {_MISSING}")
    if options.get("ignore_result", task.ignore_result):
        msg = f"{task.name}: apply_async_and_get_result() needs the result, and ignore_result drops it; set it to False"
        raise ResultBackendMissing(msg)


def missing_result(backend: Any, task_id: str) -> ResultMissing:
    """Return the error for a caller that joined a task which is over, and has no result for it."""
    why = (
        "the result backend rpc:// sends it to the caller whose message it was, and to nobody else"
        if delivers_once(backend)
        else "it was sent with ignore_result, ended without a result, or its worker was killed"
    )
    return ResultMissing(
        f"task {task_id}, which this call joined, is over and its result did not come here: {why}"
    )
