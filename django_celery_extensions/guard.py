"""The way of a message through the worker: start, body, settle.

:func:`run` is the whole of it, called by Celery's tracer in place of the body of a guarded task.
:func:`watch` stands around the tracer, for messages whose body is never reached.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.app.task import Task
from celery.states import FAILURE, READY_STATES, SUCCESS

from django_celery_extensions.events import STARTED
from django_celery_extensions.exceptions import StoreUnavailable, UniqueTaskConflict
from django_celery_extensions.execution import WAIT_FIRST, WAIT_LONGEST, Execution
from django_celery_extensions.invocation import EXECUTION
from django_celery_extensions.result_backends import readable
from django_celery_extensions.settling import REACHED, abandon, marks_of
from django_celery_extensions.stores.base import Answer, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.app.task import Context

    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: How often a message looks for the result of a task that has ended before it runs itself.
RESULT_LOOKS = 3


def guard(cls: type[DjangoTask], *, custom: bool, claims: bool) -> None:
    """Put the guard of a unique or ignored task before its body, and the watch around its tracer.

    On the task's own class only: Celery's tracer pays for a ``__call__`` wherever it finds one.
    """
    inherited = cls.__call__

    def __call__(self: DjangoTask, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        request: Any = self.request_stack.top
        if request is None or request.called_directly or EXECUTION in vars(request):
            return inherited(self, *args, **kwargs)  # a plain call, also of itself from its own body
        body = partial(inherited, self) if custom else self.run
        # A subclass of a guarded task's class need not be guarded.
        return run(self, request, body, args, kwargs) if self.policy.guarded else body(*args, **kwargs)

    __call__.guards = True  # type: ignore[attr-defined]
    cls.__call__ = __call__  # type: ignore[method-assign, assignment]
    cls.__trace__ = property(_tracer, _put_tracer, _take_tracer)
    if claims and cls.Request == Task.Request:
        cls.Request = _REQUEST


#: What sees the endings of a delivery that only the worker's parent process sees.
_REQUEST = "django_celery_extensions.worker:Request"
#: Name in a task's ``__dict__`` of the tracer that a worker put on it.
_TRACER = "_tracer"


def _tracer(task: DjangoTask) -> Callable[..., Any] | None:
    return vars(task).get(_TRACER)


def _put_tracer(task: DjangoTask, trace: Callable[..., Any] | None) -> None:
    vars(task)[_TRACER] = watch(task, trace) if trace is not None and task.policy.guarded else trace


def _take_tracer(task: DjangoTask) -> None:
    vars(task).pop(_TRACER, None)


def run(task: DjangoTask, request: Context, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run the body of a guarded task: start, body, settle."""
    execution = Execution(task, request)
    setattr(request, EXECUTION, execution)

    done, value = take_over(execution)
    if done:
        return value
    try:
        answer = execution.start()
    except StoreUnavailable as exc:
        answer = _without_store(execution, exc)
    if answer.verdict is not Verdict.FREE:
        done, value = _not_free(execution, answer)
    elif execution.header.follows is not None:
        done, value = _follower_is_free(execution, answer)
    if done:
        return value

    try:
        STARTED.tell(task, execution.task_id, args, kwargs)
        value = body(*args, **kwargs)
    except BaseException as exc:
        execution.end(exc)
        raise
    execution.settle(succeeded=True)
    return value


def take_over(execution: Execution) -> tuple[bool, Any]:
    """Look for the result of the task that a message waits for; raise it where it is an error.

    Returns whether there is one to take over, and the result.
    """
    followed = execution.header.follows
    if followed is None:
        return False, None
    if followed == execution.task_id:
        _skip_if_over(execution)
        return False, None
    task = execution.task
    if not readable(task.backend):
        return False, None
    meta = task.backend.get_task_meta(followed)
    state, result = meta["status"], meta["result"]
    if state == SUCCESS:
        return True, result
    if state == FAILURE and isinstance(result, Exception):
        raise result
    return False, None


def _skip_if_over(execution: Execution) -> None:
    """Let a message go, delivered twice, whose task has ended: that delivery has told everybody who waits for it.

    It may have lost the claim meanwhile, which was then queued for this one.
    """
    backend = execution.task.backend
    if readable(backend) and backend.get_task_meta(execution.task_id)["status"] in READY_STATES:
        execution.give_up_queued()
        raise execution.skip("it has run already")


def _not_free(execution: Execution, answer: Answer) -> tuple[bool, Any]:
    """Decide what becomes of a message that may not run now; returns like :func:`take_over`, or raises."""
    header, policy = execution.header, execution.task.policy
    if answer.verdict is Verdict.BUSY:
        raise execution.wait("another delivery of this message runs", follows=execution.task_id)
    if answer.verdict is Verdict.WINDOW:
        return _in_window(execution, answer)
    held = f"{header.name} is held by task {answer.task_id}"
    if execution.eager and (execution.canvas or not policy.unique):
        # Here nobody can wait for that one to end.
        raise UniqueTaskConflict(execution.task.name, answer.task_id)
    if execution.canvas:
        raise execution.wait(held, follows=answer.task_id)
    if not policy.unique:
        raise execution.wait(held, follows=None)  # until the window is open, or the other run has failed
    if not header.claimed and policy.on_conflict == "raise":
        raise UniqueTaskConflict(execution.task.name, answer.task_id)
    raise execution.drop(held)


def _in_window(execution: Execution, answer: Answer) -> tuple[bool, Any]:
    """Decide what becomes of a message that finds the ignore window open; returns likewise."""
    own = answer.task_id == execution.task_id
    if own:  # by its success, in another delivery of this message; or by hand, before its retry
        _skip_if_over(execution)
    if not execution.canvas and not (own and execution.request.retries):
        raise execution.drop(f"within the ignore window of task {answer.task_id}")
    if not own and execution.header.follows != answer.task_id:
        execution.header = replace(execution.header, follows=answer.task_id)
        done, value = take_over(execution)
        if done:
            return done, value
    # Others depend on it, and there is no result to take over; or it is its own window: it runs.
    answer = execution.start(look_at_window=False)
    return (False, None) if answer.verdict is Verdict.FREE else _not_free(execution, answer)


def _follower_is_free(execution: Execution, answer: Answer) -> tuple[bool, Any]:
    """Decide what becomes of a message that waited for a task which has ended; returns like :func:`take_over`.

    A claim ends with the body and the result is stored after that, so it may be on its way.
    """
    if answer.task_id == execution.task_id:
        # The claim was queued for this very task: it has not ended, and this is its message.
        return False, None
    header = execution.header
    try:
        done, value = take_over(execution)
        stored = execution.stores_result and readable(execution.task.backend)
        if not done and stored and header.looks < RESULT_LOOKS:
            execution.header = replace(header, looks=header.looks + 1)
            why, countdown = f"for the result of task {header.follows}", WAIT_FIRST * 2**header.looks
            raise execution.wait(why, follows=header.follows, countdown=countdown)  # noqa: TRY301 - settled below
    except BaseException:
        execution.settle(succeeded=False)
        raise
    if done:
        execution.settle(succeeded=False)
    return done, value


def _without_store(execution: Execution, exc: StoreUnavailable) -> Answer:
    """Decide what becomes of a message when the store stays away: sent again, or run unclaimed if it may."""
    if execution.task.policy.on_store_error == "publish":
        _tell("runs without a claim", execution, exc)
        return Answer(verdict=Verdict.FREE)
    if execution.eager:
        raise exc
    _tell("waits for the store", execution, exc)
    waits = execution.wait(str(exc), follows=execution.header.follows, countdown=WAIT_LONGEST)
    execution.stay_queued(WAIT_LONGEST)
    raise waits from exc


def _tell(what: str, execution: Execution, exc: Exception) -> None:
    logger.warning(
        "task %s[%s] %s: %s",
        execution.task.name,
        execution.task_id,
        what,
        exc,
        extra=execution.header.log_extra,
    )


def watch(task: DjangoTask, trace: Callable[..., Any]) -> Callable[..., Any]:
    """Stand around a tracer: a message whose body is not reached gives up its claim.

    That is so when something fails before the body, or when Celery finds that the task has succeeded before.
    """

    def watched(task_id: str, args: Any, kwargs: Any, request: dict[str, Any] | None = None) -> Any:
        request = {} if request is None else request
        marks = marks_of(request)
        try:
            return trace(task_id, args, kwargs, request)
        finally:
            if not marks.get(REACHED):
                abandon(task, request, token="")

    return watched
