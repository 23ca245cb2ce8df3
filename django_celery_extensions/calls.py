"""One call of a task, resolved and checked: everything that happens before a store or a broker is asked."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django_celery_extensions import events, sqs
from django_celery_extensions.config import settings
from django_celery_extensions.invocation import Header, in_canvas, new_ids
from django_celery_extensions.keys import is_plain, unique_name
from django_celery_extensions.options import is_call_option, limits_of, queue_defaults, take_call_options
from django_celery_extensions.records import record
from django_celery_extensions.results import EagerInvocationResult, InvocationResult
from django_celery_extensions.stores import claim_store
from django_celery_extensions.timing import delay_until, queued_for
from django_celery_extensions.validation import (
    check_arguments,
    check_compression,
    check_headers,
    check_queue,
    check_serialisable,
    check_times,
    serializer_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django_celery_extensions.stores import ClaimStore
    from django_celery_extensions.task import DjangoTask
    from django_celery_extensions.timing import Limits

    Send = Callable[..., Any]


@record
class Prepared:
    """A call that has been checked: what it was given, what it is called, and what its message will say."""

    plan: Plan
    #: What every hook of an invocation is told first: id of the call, arguments.
    told: tuple[str, Sequence[Any], Mapping[str, Any]]
    task_id: str
    #: Options for Celery's own ``apply_async`` or ``apply``, those of ours taken out.
    options: dict[str, Any]
    #: Arguments and options as the caller gave them.
    given_arguments: tuple[Sequence[Any] | None, Mapping[str, Any] | None]
    given: dict[str, Any]
    #: What the caller gets.
    result: InvocationResult
    #: Its unique name; None for a task that is neither unique nor ever ignored.
    name: str | None

    @property
    def log_extra(self) -> dict[str, Any]:
        """What a log line about it carries."""
        return {"task_id": self.task_id, "invocation_id": self.told[0], "key": self.name}

    def header(self) -> Header | None:
        """Return what its message says of its claim: made for who wants it, as few calls of many are sent at a time."""
        plan = self.plan
        if self.name is None or plan.limits is None:
            return None
        return Header(
            task_id=self.task_id,
            invocation_id=self.told[0],
            name=self.name,
            stale=plan.limits.stale,
            expires=plan.limits.expires if plan.expiry_is_ours else None,
            claimed=plan.task.policy.unique,
            canvas=plan.canvas,
        )


@record
class Plan:
    """What the options of a call come to, whatever its arguments are: resolved and checked."""

    task: DjangoTask
    #: Celery's own ``apply_async`` (or ``apply``, where ``eager``).
    send: Send
    #: Options as the caller gave them, and those for Celery.
    given: dict[str, Any]
    options: dict[str, Any]
    eager: bool
    later: bool
    #: Others depend on the message.
    canvas: bool
    on_conflict: str
    on_store_error: str
    #: Of a task that is unique or has an ignore window.
    limits: Limits | None
    #: Its messages wait, or are given up some time: how long a claim lasts is for a clock to say (:func:`lasts`).
    is_timed: bool
    #: Name of the queue, where call or task give one.
    queue: Any
    #: An error of the serialiser would come too late; and it is the one for JSON.
    is_checked: bool
    json: bool
    #: The task gives its messages a limit to their waiting, and neither caller nor task another one.
    expiry_is_ours: bool
    prefix: str

    def store(self) -> ClaimStore | None:
        """Return where the claims of its calls are, for the thread that asks; None: they have none.

        Raises :class:`TaskConfigurationError` for a cache that can't keep any.
        """
        return None if self.limits is None else claim_store(eager=self.eager)

    def call(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, backend: Any) -> Prepared:
        """Return a call with these arguments, whose result is in ``backend``; raises what is wrong with them."""
        task, given, options = self.task, dict(self.given), dict(self.options)
        given_arguments = (args, kwargs)
        args, kwargs = args or (), kwargs or {}  # as Celery has it
        check_arguments(task, args, kwargs)
        call_id, task_id = new_ids()
        task_id = options["task_id"] = options.get("task_id") or task_id
        if self.is_checked and not (self.json and is_plain((*args, *kwargs, *kwargs.values()))):
            check_serialisable(task, args, kwargs, options)
        name = None if self.limits is None else unique_name(task, self.prefix, args, kwargs)
        make_result = EagerInvocationResult if self.eager else InvocationResult
        ignored = bool(options.get("ignore_result", task.ignore_result))  # Celery's word on what it sends
        result = make_result.waiting(task_id, call_id, task=task, backend=backend, ignored=ignored)
        # Not the call, which knows its result: a cycle would keep the result, and its subscription, alive.
        result.on_timeout = partial(_tell_timeout, task, call_id, args, kwargs, given)
        return Prepared(
            plan=self,
            told=(call_id, args, kwargs),
            task_id=task_id,
            options=options,
            given_arguments=given_arguments,
            given=given,
            result=result,
            name=name,
        )


def plan(task: DjangoTask, options: dict[str, Any], *, send: Send, eager: bool, later: bool) -> Plan:
    """Resolve the options of a call, or of many, and check all that can be; ask no store, send nothing.

    ``later``: the call is sent at the commit, when an error would come too late for its caller.
    """
    if options:
        made = _resolve(task, options, send=send, eager=eager, later=later)
    else:
        made = _kept(task, send=send, eager=eager, later=later)
    if made.queue is not None:
        check_queue(task, made.queue)
    return made


#: What the task itself says about a call without options.
_said_by = attrgetter(
    "expires",
    "queue",
    "serializer",
    "time_limit",
    "soft_time_limit",
    "stale_time_limit",
    "max_queue_waiting_time",
)


def _kept(task: DjangoTask, *, send: Send, eager: bool, later: bool) -> Plan:
    """Return the plan of a call without options: the last one, while all that it was made of is the same."""
    made_of: tuple[Any, ...] = send, _said_by(task)
    if task.policy.guarded:
        made_of += (
            settings.UNIQUE_TASK_KEY_PREFIX,
            settings.DEFAULT_TASK_STALE_TIME_LIMIT,
            settings.DEFAULT_TASK_MAX_QUEUE_WAITING_TIME,
        )
    plans = vars(task).setdefault("_plans", {})
    found: tuple[Any, Plan] | None = plans.get((eager, later))
    if found is None or found[0] != made_of:
        found = plans[eager, later] = made_of, _resolve(task, {}, send=send, eager=eager, later=later)
    return found[1]


def _resolve(task: DjangoTask, options: dict[str, Any], *, send: Send, eager: bool, later: bool) -> Plan:
    given, policy = dict(options), task.policy
    own, canvas = {}, False
    if options:
        _resolve_queue(task, options)
        own, canvas = take_call_options(task.name, options), in_canvas(options)
        check_headers(task, options)
        check_times(task, options)
        check_compression(task, options)
    limits = limits_of(task, own, options) if policy.guarded else None
    queue = options.get("queue")
    return Plan(
        task=task,
        send=send,
        given=given,
        options=options,
        eager=eager,
        later=later,
        canvas=canvas,
        on_conflict=own.get("unique_on_conflict", policy.on_conflict),
        on_store_error=own.get("unique_on_store_error", policy.on_store_error),
        limits=limits,
        is_timed=_is_timed(task, options),
        queue=task.queue if queue is None else queue,
        is_checked=policy.guarded or later,
        json=serializer_name(task, options) == "json",
        expiry_is_ours=policy.unique and options.get("expires") is None and task.expires is None,
        prefix=settings.UNIQUE_TASK_KEY_PREFIX,
    )


#: Options that let a message wait.
_DELAYS = frozenset({"countdown", "eta", *sqs.DELAYS})


def _is_timed(task: DjangoTask, options: Mapping[str, Any]) -> bool:
    """Tell whether a message waits, or is given up some time."""
    return options.get("expires", task.expires) is not None or not options.keys().isdisjoint(_DELAYS)


def delay(task: DjangoTask, options: Mapping[str, Any]) -> float:
    """Return the seconds from now for which a message waits."""
    waits = delay_until(options.get("countdown"), options.get("eta"), task.app.now())
    return max(waits, sqs.delay(options))


def lasts(task: DjangoTask, stale: float, options: Mapping[str, Any]) -> float:
    """Return the seconds from now that the claim of a message lasts: its wait comes on top of its stale limit."""
    if not _is_timed(task, options):
        return stale  # nobody has to look at a clock
    return queued_for(stale, delay(task, options), options.get("expires", task.expires), task.app.now())


def _resolve_queue(task: DjangoTask, options: dict[str, Any]) -> None:
    """Turn a ``CeleryQueueEnum`` member into its name and defaults."""
    queue: Any = options.get("queue")
    if hasattr(queue, "default_task_kwargs"):
        for name, value in queue_defaults(type(task), queue).items():
            if is_call_option(name):
                options.setdefault(name, value)
        options["queue"] = queue.queue_name


def _tell_timeout(
    task: DjangoTask,
    invocation_id: str,
    args: Any,
    kwargs: Any,
    options: Any,
    result: InvocationResult,
    exc: Exception,
) -> None:
    events.TIMED_OUT.tell(task, invocation_id, args, kwargs, result.id, exc, options, result)
