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

from django_celery_extensions import events
from django_celery_extensions.calls import Prepared, prepare
from django_celery_extensions.exceptions import InvalidOption, StoreUnavailable, UniqueTaskConflict
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.invocation import (
    EXECUTION,
    HEADER,
    Header,
    Outcome,
    read_header,
)
from django_celery_extensions.results import EagerInvocationResult, InvocationResult
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Answer, Ask, Holding, Verdict
from django_celery_extensions.timing import delay_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from django_celery_extensions.task import DjangoTask

    Send = Callable[..., Any]

logger = logging.getLogger(__name__)

#: Seconds between two looks for a store that has to learn, within a lease, that a claim is queued again.
QUEUE_SECONDS = 0.25

#: The result that the task being sent belongs to, for Celery to hand out instead of a second one.
sending: ContextVar[InvocationResult | None] = ContextVar("django_celery_extensions_sending", default=None)
#: The producer that all messages of one :func:`dispatch_many` go through.
_producer: ContextVar[Any] = ContextVar("django_celery_extensions_producer", default=None)


def dispatch(
    task: DjangoTask,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
    *,
    send: Send,
    eager: bool,
    when: Callable[[Callable[[], None]], None] | None = None,
) -> InvocationResult:
    """Take one call from asking to sending, and return the result of its invocation.

    ``send`` is Celery's own ``apply_async`` (or ``apply``, where ``eager``). ``when`` takes the second half,
    from the admission on, and calls it when its time has come: at the commit. None: at once.
    """
    call = prepare(task, args, kwargs, options, eager=eager, later=when is not None)
    result = call.invocation.result
    result.on_commit = when is not None
    events.APPLIED.tell(task, *call.told, call.given, result)

    def admit_and_send() -> None:
        answer = admit(task, call)
        if answer.verdict is Verdict.FREE or (call.header is not None and call.header.canvas):
            publish(task, call, answer, send)
        elif answer.verdict is Verdict.WINDOW or call.on_conflict == "skip":
            result.ignore()
            events.IGNORED.tell(task, *call.told, answer.task_id, call.given, result)
        else:
            result.joined(answer.task_id)
            events.UNIQUE.tell(task, *call.told, answer.task_id, call.given, result)
            if call.on_conflict == "raise":
                raise UniqueTaskConflict(task.name, answer.task_id)
            _add_to_parent(task, result, call.given)

    if when is None:
        admit_and_send()
    else:
        when(admit_and_send)
    return result


def dispatch_many(
    task: DjangoTask,
    calls: Iterable[tuple[Sequence[Any] | None, Mapping[str, Any] | None]],
    options: dict[str, Any],
    *,
    send: Send,
    eager: bool,
    when: Callable[[Callable[[], None]], None] | None = None,
) -> list[InvocationResult]:
    """Take many calls of one task the same way; one connection sends them all.

    Every call is checked, and told, before the first one is admitted.
    """
    if options.get("task_id") is not None:
        msg = f"{task.name}: many calls can't share the task_id {options['task_id']!r}"
        raise InvalidOption(msg)
    admissions: list[Callable[[], None]] = []
    results = [
        dispatch(task, args, kwargs, dict(options), send=send, eager=eager, when=admissions.append)
        for args, kwargs in calls
    ]
    for result in results:
        result.on_commit = when is not None

    def admit_and_send_all() -> None:
        with task.app.producer_or_acquire(options.get("producer")) as producer:
            for admit_and_send in admissions:
                current = _producer.set(producer)
                try:
                    admit_and_send()
                finally:
                    _producer.reset(current)

    if when is None:
        admit_and_send_all()
    else:
        when(admit_and_send_all)
    return results


def admit(task: DjangoTask, call: Prepared) -> Answer:
    """Ask the store for the claim; the wait for a countdown or an ETA comes on top of its stale limit."""
    ask, invocation = call.ask, call.invocation
    if ask is None:
        return Answer(verdict=Verdict.FREE)
    if ask.claim is not None:
        ask = replace(ask, claim=ask.claim + _delay(task, invocation.options))
    try:
        return claim_store(eager=invocation.eager).admit(ask)
    except StoreUnavailable as exc:
        if call.on_store_error == "raise":
            if ask.claim is not None and "task_id" not in call.given:
                heartbeat.owe(partial(_settle_unsent, ask.name, ask.task_id))
            raise
        logger.warning(
            "task %s[%s] is sent without a claim: %s",
            task.name,
            invocation.task_id,
            exc,
            extra={"task_id": invocation.task_id, "invocation_id": invocation.id, "key": ask.name},
        )
        # The worker has to make the claim: it finds none, and no header that says there was one.
        return Answer(verdict=Verdict.FREE)


def publish(task: DjangoTask, call: Prepared, answer: Answer, send: Send) -> None:
    """Tell that the message is about to be sent, and send it; give the claim up if either fails."""
    invocation, header, result = call.invocation, call.header, call.invocation.result
    options = dict(invocation.options)
    if header is not None:
        if answer.verdict is Verdict.FREE:
            header = replace(header, claimed=answer.fence > 0)
        else:
            header = replace(header, follows=answer.task_id, expires=None)
        add_header(task, options, header)
    producer = _producer.get()
    if producer is not None:
        options.setdefault("producer", producer)
    outer = sending.set(result)
    try:
        result.outcome = Outcome.TRIGGERED
        events.TRIGGERED.tell(task, *call.told, invocation.task_id, options, result)
        sent = send(*call.given_arguments, **options)
    except BaseException:
        result.outcome = Outcome.WAITING
        if header is not None and header.claimed:
            give_up(header, eager=invocation.eager, replaced=answer.task_id)
        raise
    finally:
        sending.reset(outer)
    if isinstance(result, EagerInvocationResult):
        result.ran(sent)
        if header is not None and header.claimed:
            give_up(header, eager=True)  # its body may not have been reached, and no worker stands around it


def resend(task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any], send: Send) -> Any:
    """Send a retry: the same task goes back to its queue, and its claim covers the wait.

    Neither hooks nor ignore windows have a part in it. A store that can't be reached never loses a retry.
    """
    task_id = options.get("task_id")
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
    lasts, token = header.stale + _delay(task, options), execution.token if running else header.token
    ask = Ask(name=header.name, task_id=header.task_id, claim=lasts, proof=token)
    try:
        claim_store(eager=True).admit(ask)
    except StoreUnavailable as exc:
        if token:
            owe_queued(Holding(name=header.name, task_id=header.task_id, token=token), lasts)
        logger.warning("the claim of %s[%s] is not armed for its retry: %s", task.name, task_id, exc)
    if running:
        execution.handed_over = True
    try:
        return send(args, kwargs, **options)
    except BaseException:
        give_up(header, eager=True)
        raise


def add_header(task: DjangoTask, options: dict[str, Any], header: Header) -> None:
    """Put our header among the options of a message, and the expiry that it speaks of."""
    options["headers"] = {**(options.get("headers") or {}), HEADER: header.pack()}
    if header.expires is not None and options.get("expires") is None:
        options["expires"] = header.expires + _delay(task, options)


def give_up(header: Header, *, eager: bool, replaced: str = "") -> None:
    """End the claim of a message that did not go out, or hand it back to the queued task that it replaced.

    Never hides the error that kept the message.
    """
    try:
        if replaced:
            claim_store(eager=eager).admit(
                Ask(name=header.name, task_id=replaced, claim=header.stale, replace=True)
            )
        else:
            _settle_unsent(header.name, header.task_id, eager=eager)
    except StoreUnavailable as exc:
        heartbeat.owe(partial(_settle_unsent, header.name, header.task_id))
        logger.warning(
            "the claim of %s stays until the store is back, or until it is stale in %s seconds: %s",
            header.name,
            header.stale,
            exc,
            extra={"task_id": header.task_id, "key": header.name},
        )


def _settle_unsent(name: str, task_id: str, *, eager: bool = True) -> None:
    """End the claim of a message that was not sent. Nobody else can have one with its task id: twice does no harm."""
    claim_store(eager=eager).settle(Holding(name=name, task_id=task_id, token=""), unsent=True)


def owe_queued(holding: Holding, lasts: float) -> None:
    """Queue the claim that an execution has, or may have, for its message that was sent again, once the store is back.

    A running claim that nobody renews is gone after one lease. Harmless where the message has started meanwhile.
    """
    heartbeat.owe(partial(_requeue, holding, lasts), pause=QUEUE_SECONDS)


def _requeue(holding: Holding, lasts: float) -> None:
    claim_store(eager=True).requeue(holding, lasts)


def _delay(task: DjangoTask, options: Mapping[str, Any]) -> float:
    return delay_until(options.get("countdown"), options.get("eta"), task.app.now())


def _add_to_parent(task: DjangoTask, result: InvocationResult, options: Mapping[str, Any]) -> None:
    # Celery does this for each message that it sends; a joined call sends none.
    parent = task.app.current_worker_task
    if parent is not None and options.get("add_to_parent", True):
        parent.add_trail(result)
