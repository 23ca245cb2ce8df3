"""The options of a ``DjangoTask``: what they may be, and what they come to for one task."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.app.task import Task

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import InvalidOption, TaskConfigurationError
from django_celery_extensions.keys import check_argument_names
from django_celery_extensions.timing import DAY_LONG, Limits, limits, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Options of a task that are ours, with the values they may have where those are few.
TASK_OPTIONS: dict[str, tuple[Any, ...] | None] = {
    "unique": (True, False),
    "unique_keys": None,
    "unique_key_generator": None,
    "unique_on_conflict": ("join", "raise", "skip", "replace"),
    "unique_until": ("finish", "start"),
    "stale_time_limit": None,
    "unique_on_store_error": ("raise", "publish"),
    "lease_timeout": None,
    "max_queue_waiting_time": None,
    "ignore_task_after_success": (True, False),
    "ignore_task_timedelta": None,
    "default_retry_delays": None,
    "queue": None,
}

_DURATIONS = ("stale_time_limit", "max_queue_waiting_time", "lease_timeout")

#: Options of ours that a single call may give.
CALL_OPTIONS = frozenset(
    {"stale_time_limit", "max_queue_waiting_time", "unique_on_conflict", "unique_on_store_error"}
)

#: What Celery reads off a task's class without having it on ``celery.Task``.
_CELERY_TASK_OPTIONS = frozenset(
    "autoretry_for dont_autoretry_for retry_kwargs retry_backoff retry_backoff_max retry_jitter exchange exchange_type "
    "routing_key delivery_mode compression immediate mandatory retry retry_policy app run model shared lazy".split()
) | {name for name, _ in Task.from_config}

#: How alike a wrong name must be to a right one to count as a slip of the pen.
_ALIKE = 0.8


def check_declaration(owner: str, declared: Mapping[str, Any], known_attributes: Iterable[str]) -> None:
    """Refuse a misspelt option, or an option with a value that it can't have, where a task is declared.

    Other unknown attributes are let through, as Celery lets them; a system check lists them.

    Raises :class:`TaskConfigurationError`.
    """
    known = {*TASK_OPTIONS, *_CELERY_TASK_OPTIONS, *known_attributes}
    for name, value in declared.items():
        if name in TASK_OPTIONS:
            _check_choice(TaskConfigurationError, f"{owner}: {name}", name, value)
        elif name not in known and not name.startswith("_"):
            likely = get_close_matches(name, _long(known), n=1, cutoff=_ALIKE)
            if likely:
                msg = f"{owner}: unknown option {name!r}; did you mean {likely[0]!r}?"
                raise TaskConfigurationError(msg)


def unknown_options(task: Task[..., Any]) -> list[str]:
    """Return the attributes given to the decorator that neither Celery, we nor a base class know."""
    known = {*TASK_OPTIONS, *_CELERY_TASK_OPTIONS}
    for base in type(task).__mro__[1:]:
        known.update(vars(base), getattr(base, "__annotations__", ()))
    if not vars(type(task)).get("_decorated"):
        return []
    return sorted(
        name
        for name, value in vars(type(task)).items()
        if name not in known and not name.startswith("_") and not callable(value)
    )


#: Options that mean something to a unique task only; the keys to one with an ignore window as well.
_OF_UNIQUE = ("stale_time_limit", "unique_on_conflict", "unique_on_store_error", "unique_until")
_OF_KEYS = ("unique_key_generator", "unique_keys")


def idle_options(task: Any) -> list[str]:
    """Return the options that a task's own declaration gives it, and that do nothing as it is not unique."""
    if task.policy.unique:
        return []
    idle = _OF_UNIQUE if task.policy.guarded else (*_OF_UNIQUE, *_OF_KEYS)
    return [name for name in sorted(idle) if vars(type(task)).get(name) is not None]


def take_call_options(task_name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Take the options that are ours out of those of a call.

    Raises :class:`InvalidOption` for a value that one can't have, and for a name that is nearly one of them.
    """
    taken = {name: options.pop(name) for name in CALL_OPTIONS & options.keys()}
    taken = {name: value for name, value in taken.items() if value is not None}
    for name, value in taken.items():
        _check_choice(InvalidOption, f"{task_name}: {name}", name, value)
        if name in _DURATIONS:
            seconds(value, f"{task_name}: {name}")
    for name in options:
        if name in TASK_OPTIONS and name != "queue":
            msg = f"{task_name}: {name!r} is an option of the task, a call can't give it; calls can give "
            raise InvalidOption(msg + ", ".join(sorted(CALL_OPTIONS)))
        if name == "using":
            msg = f"{task_name}: 'using' is an option of the calls on commit, and this one is sent at once"
            raise InvalidOption(msg)
    _check_names(task_name, options, _KNOWN_CALL_OPTIONS)
    return taken


def check_retry_options(task_name: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidOption` for an option of ``retry()`` that is nearly one of Celery's."""
    if options:
        _check_names(task_name, options, _CELERY_CALL_OPTIONS)


def _check_names(task_name: str, options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise :class:`InvalidOption` for a name that is nearly a known one."""
    for name in options:
        if name in known or name in (options.get("stamped_headers") or ()):
            continue
        likely = get_close_matches(name, _long(known), n=1, cutoff=_ALIKE)
        if likely:
            msg = f"{task_name}: unknown option {name!r}; did you mean {likely[0]!r}?"
            raise InvalidOption(msg)


_CELERY_CALL_OPTIONS = frozenset(
    "task_id producer connection link link_error shadow countdown eta expires retry retry_policy time_limit "
    "soft_time_limit queue exchange routing_key priority serializer compression headers add_to_parent ignore_result "
    "chain chord group_id group_index root_id parent_id retries reply_to stamped_headers replaced_task_nesting "
    "route_name mandatory immediate delivery_mode throw logfile loglevel publisher expiration exchange_type declare "
    "timeout confirm_timeout event_dispatcher argsrepr kwargsrepr origin correlation_id content_type content_encoding "
    "user_id app_id message_id type timestamp cluster_id connect_timeout task_protocol "
    "MessageGroupId MessageDeduplicationId DelaySeconds delay_seconds message_attributes".split()  # of kombu's SQS
)

_KNOWN_CALL_OPTIONS = CALL_OPTIONS | _CELERY_CALL_OPTIONS


def _long(names: Iterable[str]) -> list[str]:
    # A short name is like too many others: "names" may well be an attribute of somebody's own.
    return [name for name in names if len(name) > 5]  # noqa: PLR2004


def is_call_option(name: str) -> bool:
    """Tell whether a call can give this option, ours or Celery's."""
    return name in CALL_OPTIONS or name in _CELERY_CALL_OPTIONS


def _check_choice(error: type[Exception], what: str, name: str, value: Any) -> None:
    choices = TASK_OPTIONS[name]
    if choices is not None and not any(value is choice or value == choice for choice in choices):
        msg = f"{what} is {value!r}; it can be {', '.join(map(repr, choices))}"
        raise error(msg)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the options of one task come to: the part that no call can change."""

    unique: bool
    until_start: bool
    #: Calls and starts look at the ignore window.
    window: bool
    #: Seconds the window stays open after a success; None: it is opened by hand, or never.
    window_after_success: float | None
    default_window: float | None
    on_conflict: str
    on_store_error: str
    lease_timeout: float | None

    # What every delivery asks is worked out once.

    @cached_property
    def guarded(self) -> bool:
        """Tell whether the store has any part in calls of this task."""
        return self.unique or self.window

    @cached_property
    def claims(self) -> bool:
        """Tell whether calls or runs of this task hold a claim."""
        return self.unique or self.runs_alone

    @cached_property
    def runs_alone(self) -> bool:
        """Tell whether a run holds a claim: two runs at once could both succeed within one ignore window."""
        return not self.until_start if self.unique else self.window_after_success is not None

    @property
    def lease(self) -> float:
        """Seconds a running claim outlives its process."""
        if self.lease_timeout is not None:
            return self.lease_timeout
        return seconds(settings.LOCK_TIMEOUT, "DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT")


def policy_of(task: Any) -> Policy:
    """Work out, and check, the policy of a bound task.

    Raises :class:`TaskConfigurationError` for options that don't go together or that can't be.
    """
    name = task.name
    if task.unique_keys is not None:
        check_argument_names(task, "unique_keys", task.unique_keys)
    if not callable(type(task).unique_key_generator):
        msg = f"{name}: unique_key_generator is {task.unique_key_generator!r}; give f(task, prefix, args, kwargs) -> str"
        raise TaskConfigurationError(msg)
    for option in _DURATIONS:
        if getattr(task, option) is not None:
            seconds(getattr(task, option), f"{name}: {option}")
    window = None
    if task.ignore_task_timedelta is not None:
        window = seconds(task.ignore_task_timedelta, f"{name}: ignore_task_timedelta")
    elif task.ignore_task_after_success:
        msg = f"{name}: ignore_task_after_success needs an ignore_task_timedelta, how long calls are ignored"
        raise TaskConfigurationError(msg)
    for index, delay in enumerate(retry_delays(name, task.default_retry_delays) or ()):
        seconds(delay, f"{name}: default_retry_delays[{index}]", or_zero=True)
    return Policy(
        unique=task.unique,
        until_start=task.unique_until == "start",
        window=window is not None,
        window_after_success=window if task.ignore_task_after_success else None,
        default_window=window,
        on_conflict=task.unique_on_conflict,
        on_store_error=task.unique_on_store_error,
        lease_timeout=None if task.lease_timeout is None else seconds(task.lease_timeout, "lease_timeout"),
    )


def limits_of(task: Any, call: Mapping[str, Any], options: Mapping[str, Any]) -> Limits:
    """Resolve the limits of one call: call, task, setting, Celery, in this order."""
    if not task.policy.unique:
        return DAY_LONG  # of a run that nobody waits for: its lease ends with it
    waiting = call.get("max_queue_waiting_time")
    if waiting is None:
        waiting = task.max_queue_waiting_time
    if waiting is None:
        waiting = settings.DEFAULT_TASK_MAX_QUEUE_WAITING_TIME
    time_limit = options.get("time_limit")
    if time_limit is None:
        time_limit = task.time_limit
    if time_limit is None:
        time_limit = options.get("soft_time_limit")
    if time_limit is None:
        time_limit = task.soft_time_limit
    return limits(
        call=call.get("stale_time_limit"),
        task=task.stale_time_limit,
        default=settings.DEFAULT_TASK_STALE_TIME_LIMIT,
        time_limit=time_limit,
        max_queue_waiting_time=None if waiting is None else seconds(waiting, "max_queue_waiting_time"),
    )


class Queue:
    """The ``queue`` of tasks that name a ``CeleryQueueEnum`` member, kept where Celery does not call it deprecated."""

    def __get__(self, instance: object | None, owner: Any) -> Any:
        return getattr(owner, _QUEUE, None)


_QUEUE = "_queue"


def take_queue(cls: Any) -> None:
    """Turn a ``CeleryQueueEnum`` member that a class declares into its queue's name and its tasks' defaults."""
    queue = vars(cls).get("queue")
    if queue is None or not hasattr(queue, "default_task_kwargs"):
        return
    for name, value in queue_defaults(cls, queue).items():
        setattr(cls, name, value)
    setattr(cls, _QUEUE, queue.queue_name)
    del cls.queue


def queue_defaults(cls: type, queue: Any) -> dict[str, Any]:
    """Return the options that a ``CeleryQueueEnum`` member gives a task, where the task sets none.

    A task sets what its own class or a base class of the project says, not what Celery or this library does.

    Raises :class:`TaskConfigurationError` for an option that there is not.
    """
    defaults: Mapping[str, Any] = queue.default_task_kwargs
    for name in defaults:
        if not hasattr(Task, name) and name not in {*TASK_OPTIONS, *_CELERY_TASK_OPTIONS}:
            msg = f"{queue!r} gives its tasks an unknown option {name!r}"
            raise TaskConfigurationError(msg)
    own = [base for base in cls.__mro__ if not base.__module__.startswith(_LIBRARIES)]
    return {
        name: value for name, value in defaults.items() if all(vars(base).get(name) is None for base in own)
    }


#: Modules whose classes declare no task of a project.
_LIBRARIES = ("celery.", "django_celery_extensions.", "builtins")


def retry_delays(owner: str, delays: Any) -> tuple[Any, ...] | None:
    """Return ``default_retry_delays`` as a tuple; raises :class:`TaskConfigurationError` unless they are several."""
    if delays is None:
        return None
    if not isinstance(delays, (list, tuple)):
        msg = f"{owner}: default_retry_delays is {delays!r}; give a list or tuple of seconds or timedeltas"
        raise TaskConfigurationError(msg)
    return tuple(delays)
