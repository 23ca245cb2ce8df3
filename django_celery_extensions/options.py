"""The options of a ``DjangoTask``: what they may be, and what they come to for one task."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from celery.app.task import Task

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import InvalidOption, TaskConfigurationError
from django_celery_extensions.keys import check_argument_names
from django_celery_extensions.timing import Limits, limits, seconds

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

#: Options of ours that a single call may give.
CALL_OPTIONS = frozenset(
    {"stale_time_limit", "max_queue_waiting_time", "unique_on_conflict", "unique_on_store_error"}
)

#: What Celery reads off a task's class without having it on ``celery.Task``.
_CELERY_TASK_OPTIONS = frozenset(
    "autoretry_for dont_autoretry_for retry_kwargs retry_backoff retry_backoff_max retry_jitter exchange exchange_type "
    "routing_key delivery_mode compression immediate mandatory retry retry_policy app run model shared lazy".split()
)

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
            likely = get_close_matches(name, known, n=1, cutoff=_ALIKE)
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


def take_call_options(task_name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Take the options that are ours out of those of a call.

    Raises :class:`InvalidOption` for a value that one can't have, and for a name that is nearly one of them.
    """
    taken = {name: options.pop(name) for name in CALL_OPTIONS & options.keys()}
    for name, value in taken.items():
        _check_choice(InvalidOption, f"{task_name}: {name}", name, value)
    for name in options:
        if name in TASK_OPTIONS and name != "queue":
            msg = f"{task_name}: {name!r} is an option of the task, a call can't give it; calls can give "
            raise InvalidOption(msg + ", ".join(sorted(CALL_OPTIONS)))
        if name not in _CELERY_CALL_OPTIONS:
            likely = get_close_matches(name, CALL_OPTIONS, n=1, cutoff=_ALIKE)
            if likely:
                msg = f"{task_name}: unknown option {name!r}; did you mean {likely[0]!r}?"
                raise InvalidOption(msg)
    return taken


_CELERY_CALL_OPTIONS = frozenset(
    "task_id producer connection link link_error shadow countdown eta expires retry retry_policy time_limit "
    "soft_time_limit queue exchange routing_key priority serializer compression headers add_to_parent ignore_result "
    "chain chord group_id group_index root_id parent_id retries reply_to stamped_headers replaced_task_nesting "
    "route_name mandatory immediate delivery_mode throw logfile loglevel publisher".split()
)


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

    @property
    def guarded(self) -> bool:
        """Tell whether the store has any part in calls of this task."""
        return self.unique or self.window

    @property
    def lease(self) -> float:
        """Seconds a running claim outlives its process."""
        return self.lease_timeout if self.lease_timeout is not None else float(settings.LOCK_TIMEOUT)


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
    for option in ("stale_time_limit", "max_queue_waiting_time", "lease_timeout"):
        if getattr(task, option) is not None:
            seconds(getattr(task, option), f"{name}: {option}")
    window = None
    if task.ignore_task_timedelta is not None:
        window = seconds(task.ignore_task_timedelta, f"{name}: ignore_task_timedelta")
    elif task.ignore_task_after_success:
        msg = f"{name}: ignore_task_after_success needs an ignore_task_timedelta, how long calls are ignored"
        raise TaskConfigurationError(msg)
    for index, delay in enumerate(task.default_retry_delays or ()):
        seconds(delay, f"{name}: default_retry_delays[{index}]", zero=True)
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
    """The ``queue`` of a task: off its class, where Celery 5.7 calls it deprecated and Celery 6 will not look."""

    def __get__(self, instance: object | None, owner: Any) -> Any:
        return getattr(owner, _QUEUE, None)


_QUEUE = "_queue"


def take_queue(cls: Any) -> None:
    """Keep the ``queue`` that a class declares; a ``CeleryQueueEnum`` member also gives defaults for its tasks."""
    queue = vars(cls).get("queue")
    if queue is None:
        return
    defaults = getattr(queue, "default_task_kwargs", {})
    for name, value in defaults.items():
        if not hasattr(Task, name) and name not in {*TASK_OPTIONS, *_CELERY_TASK_OPTIONS}:
            msg = f"{queue!r} gives its tasks an unknown option {name!r}"
            raise TaskConfigurationError(msg)
        if getattr(cls, name, None) is None:
            setattr(cls, name, value)
    setattr(cls, _QUEUE, getattr(queue, "queue_name", queue))
    del cls.queue
