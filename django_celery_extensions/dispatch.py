"""The way of a call, from asking to sending.

:func:`dispatch` is the whole of it, to be read top to bottom: resolve and check, tell that the call was
made, wait for the commit, admit, tell how it ended, send. Nothing is claimed before everything that can be
checked has been, and what was claimed is given up again if the message does not go out.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from django_celery_extensions import events, sqs
from django_celery_extensions.calls import Prepared, delay, lasts, plan
from django_celery_extensions.exceptions import StoreUnavailable, UniqueTaskConflict
from django_celery_extensions.forms import route_headers
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.invocation import (
    EXECUTION,
    HEADER,
    Header,
    Outcome,
    read_header,
)
from django_celery_extensions.rearming import rearmed
from django_celery_extensions.results import EagerInvocationResult, InvocationResult
from django_celery_extensions.running import running_task
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Answer, Ask, Unsent, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django_celery_extensions.calls import Send
    from django_celery_extensions.stores import ClaimStore
    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: The result that the task being sent belongs to, for Celery to hand out instead of a second one.
sending: ContextVar[InvocationResult | None] = ContextVar("django_celery_extensions_sending", default=None)


def dispatch(
    task: DjangoTask,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
    *,
    send: Send,
    eager: bool,
    when: Callable[[Prepared], None] | None = None,
) -> InvocationResult:
    """Take one call from asking to sending, and return the result of its invocation.

    ``send`` is Celery's own ``apply_async`` (or ``apply``, where ``eager``). ``when`` takes the call that has been
    checked, and sees to the rest when its time has come: at the commit. None: at once.
    """
    made = plan(task, options, send=send, eager=eager, later=when is not None)
    store = made.store()  # a cache that can't be used is an error of the call, not of the commit
    call = made.call(args, kwargs, task.backend)
    result = call.result
    result.on_commit = when is not None
    events.APPLIED.tell(task, *call.told, call.given, result)
    if when is None:
        conclude(call, admit(call, store), send)
    else:
        when(call)
    return result


def conclude(call: Prepared, answer: Answer, send: Send) -> None:
    """Do what the store's answer says: send, join the active task, or ignore the call."""
    plan, result = call.plan, call.result
    if answer.verdict is Verdict.FREE or (plan.canvas and call.name is not None):
        publish(call, answer, send)
    elif answer.verdict is Verdict.WINDOW or plan.on_conflict == "skip":
        result.ignore()
        _log(call, "is ignored because of", answer.task_id)
        events.IGNORED.tell(plan.task, *call.told, answer.task_id, call.given, result)
    else:
        result.joined(answer.task_id, _still_held(call, answer.task_id))
        _log(call, "is a duplicate of", answer.task_id)
        events.UNIQUE.tell(plan.task, *call.told, answer.task_id, call.given, result)
        if plan.on_conflict == "raise":
            raise UniqueTaskConflict(plan.task.name, answer.task_id)
        _add_to_parent(plan.task, result, call.given)


def _log(call: Prepared, what: str, task_id: str) -> None:
    if logger.isEnabledFor(logging.INFO):
        extra = {**call.log_extra, "task_id": task_id}
        logger.info("a call of %s %s %s", call.plan.task.name, what, task_id, extra=extra)


def admit(call: Prepared, store: ClaimStore | None = None) -> Answer:
    """Ask the store of this thread for the claim; ``store``: it is known already."""
    ask = asking(call)
    if ask is None:
        return Answer(verdict=Verdict.FREE)
    try:
        return (store or claim_store(eager=call.plan.eager)).admit(ask)
    except StoreUnavailable as exc:
        return unanswered(call, exc)


def unanswered(call: Prepared, exc: StoreUnavailable) -> Answer:
    """Let a call that the store said nothing to be sent without a claim, if it may be; else raise the error.

    The claim that the store may have made, or may make yet, is ended then.
    """
    task = call.plan.task
    if call.plan.on_store_error == "raise":
        if call.name is not None and task.policy.unique and "task_id" not in call.given:
            heartbeat.owe(partial(withdraw, [Unsent(name=call.name, task_id=call.task_id)]))
        raise exc
    logger.warning(
        "task %s[%s] is sent without a claim: %s", task.name, call.task_id, exc, extra=call.log_extra
    )
    # The worker has to make the claim: it finds none, and no header that says there was one.
    return Answer(verdict=Verdict.FREE)


def asking(call: Prepared) -> Ask | None:
    """Return what a call asks of the store now: the wait for a countdown or an ETA comes on top of its stale limit.

    A message that expires before that needs no claim for longer.
    """
    plan, policy = call.plan, call.plan.task.policy
    if call.name is None or plan.limits is None:
        return None
    stale = plan.limits.stale
    claim = lasts(plan.task, stale, call.options) if plan.is_timed else stale
    return Ask(
        name=call.name,
        task_id=call.task_id,
        claim=claim if policy.unique else None,
        window=policy.window,
        replace=plan.on_conflict == "replace" and not plan.canvas,
    )


def publish(call: Prepared, answer: Answer, send: Send) -> None:
    """Tell that the message is about to be sent, and send it; give the claim up if either fails."""
    task, header, result = call.plan.task, call.header(), call.result
    options = dict(call.options)
    if header is not None:
        if answer.verdict is not Verdict.FREE:
            header = replace(header, claimed=False, follows=answer.task_id, expires=None)
        elif header.claimed != (answer.fence > 0):  # sent without a claim
            header = replace(header, claimed=answer.fence > 0)
        elif "task_id" in call.given and answer.task_id != call.task_id:
            header = replace(header, made=answer.fence)
    outer = sending.set(result)
    try:
        if header is not None:
            add_header(task, options, header)
        result.outcome = Outcome.TRIGGERED
        events.TRIGGERED.tell(task, *call.told, call.task_id, options, result)
        sent = send(*call.given_arguments, **options)
    except BaseException:
        result.outcome = Outcome.WAITING
        claim = unsent(call, answer)
        if claim is not None:
            give_up(claim, call.log_extra)
        raise
    finally:
        sending.reset(outer)
    if isinstance(result, EagerInvocationResult):
        result.ran(sent)
        if header is not None and header.claimed and not result.claim_ended:
            # Its body was not reached, and no worker stands around it.
            give_up(Unsent(name=header.name, task_id=header.task_id), header.log_extra)


def claim_ended_here(task_id: str) -> None:
    """Note that the claim of a task that runs where it was called has ended: its caller need not see to it."""
    result = sending.get()
    if isinstance(result, EagerInvocationResult) and result.id == task_id:
        result.claim_ended = True


def resend(task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any], send: Send) -> Any:
    """Send a retry: the same task goes back to its queue, and its claim covers the wait.

    Neither hooks nor ignore windows have a part in it. A store that can't be reached never loses a retry.
    """
    task_id = options.get("task_id")
    sqs.stay_in_group(task.request, options)
    execution: Any = getattr(task.request, EXECUTION, None)
    running = execution is not None and execution.task_id == task_id
    header: Header | None = execution.header if running else read_header(options.get("headers"), task_id)
    if header is None:
        return send(args, kwargs, **options)
    if header.expires is not None:
        options["expires"] = None  # ours, counted anew for this wait
    add_header(task, options, replace(header, claimed=task.policy.unique))
    if not task.policy.unique:
        return send(args, kwargs, **options)
    token = execution.token if running else header.token
    with rearmed(task, header, token, lasts(task, header.stale, options)):
        if running:
            execution.handed_over = True
        try:
            return send(args, kwargs, **options)
        except BaseException:
            give_up(Unsent(name=header.name, task_id=header.task_id), header.log_extra)
            raise


def add_header(task: DjangoTask, options: dict[str, Any], header: Header) -> None:
    """Put our header among the options of a message, and the expiry that it speaks of."""
    headers = options.get("headers")
    if headers is None:
        headers = route_headers(task)
    options["headers"] = {**headers, HEADER: header.pack()}
    if header.expires is not None and options.get("expires") is None:
        options["expires"] = header.expires + delay(task, options)


def unsent(call: Prepared, answer: Answer) -> Unsent | None:
    """Return the claim to withdraw of an admitted call that is not sent; None where it made none.

    Under a task id that its caller gave, the claim may be that of a message which was sent before.
    """
    header = call.header()
    if header is None or not header.claimed or answer.verdict is not Verdict.FREE or not answer.fence:
        return None
    had = answer.task_id
    if had == call.task_id and "task_id" in call.given:
        return None
    replaced = "" if had == call.task_id else had
    return Unsent(name=header.name, task_id=header.task_id, replaced=replaced, stale=header.stale)


def withdraw(claims: Sequence[Unsent]) -> None:
    """End claims of messages that were not sent. What they replaced first is queued again: the last one goes first."""
    claim_store(eager=True).withdraw_many(claims[::-1])


def give_up(claim: Unsent, extra: dict[str, Any]) -> None:
    """End the claim of a message that did not go out; never hides the error that kept the message."""
    try:
        withdraw([claim])
    except StoreUnavailable as exc:
        heartbeat.owe(partial(withdraw, [claim]))
        logger.warning(
            "the claim of %s stays until the store is back, or until it is stale: %s",
            claim.name,
            exc,
            extra=extra,
        )


def _still_held(call: Prepared, task_id: str) -> Callable[[], bool] | None:
    """Return what tells whether the task that a call joined is queued or running still."""
    if call.name is None or call.plan.task.policy.until_start:
        return None  # its claim ends before its body does
    return partial(_holds, call.name, task_id)


def _holds(name: str, task_id: str) -> bool:
    try:
        holding = claim_store(eager=True).holding(name)
    except StoreUnavailable:
        return True  # nobody knows
    return holding is not None and holding.task_id == task_id


def _add_to_parent(task: DjangoTask, result: InvocationResult, options: Mapping[str, Any]) -> None:
    # Celery does this for each message that it sends; a joined call sends none.
    parent = running_task(task.app)
    if parent is not None and options.get("add_to_parent", True):
        parent.add_trail(result)
