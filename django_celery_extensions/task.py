"""``DjangoTask``: a Celery task that is safe to call from Django.

This is the public face. What happens to a call is in :mod:`~django_celery_extensions.dispatch`; what happens to a
message in the worker is in :mod:`~django_celery_extensions.execution`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery.app.task import Task
from celery.app.trace import task_has_custom
from celery.exceptions import Retry
from celery.exceptions import TimeoutError as CeleryTimeoutError

from django_celery_extensions import diversion, events, publishing, result_backends, sqs
from django_celery_extensions.celery_config import configured
from django_celery_extensions.commits import check_database, many_on_commit, one_on_commit
from django_celery_extensions.config import settings
from django_celery_extensions.delivery import deliver, leave_to_worker
from django_celery_extensions.dispatch import dispatch, resend, sending
from django_celery_extensions.exceptions import InvalidOption, NotTriggeredCeleryError, TaskConfigurationError
from django_celery_extensions.guard import guard
from django_celery_extensions.hooks import Hooks
from django_celery_extensions.invocation import EXECUTION
from django_celery_extensions.keys import default_unique_key_generator, unique_name
from django_celery_extensions.many import dispatch_many
from django_celery_extensions.once import start_once
from django_celery_extensions.options import (
    Policy,
    Queue,
    check_declaration,
    check_retry_options,
    policy_of,
    retry_delays,
    take_queue,
)
from django_celery_extensions.results import EagerInvocationResult, InvocationResult
from django_celery_extensions.stores import claim_store
from django_celery_extensions.timing import retry_eta, seconds
from django_celery_extensions.validation import check_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from celery import Celery
    from celery.result import AsyncResult

    from django_celery_extensions.chunks import Progress
    from django_celery_extensions.claims import Claim
    from django_celery_extensions.execution import Execution
    from django_celery_extensions.many import Call

    _Task = Task[..., Any]  # generic in the stubs only
else:
    _Task = Task

__all__ = [
    "DjangoTask",
    "NotTriggeredCeleryError",
    "default_unique_key_generator",
    "get_django_command_task",
]


def get_django_command_task(command_name: str) -> DjangoTask:
    """Return the task that runs a management command.

    Raises :class:`~django_celery_extensions.exceptions.CommandTaskError` if the command has no task.
    """
    # Commands are tasks, so they stand above this module.
    from django_celery_extensions.commands import command_task  # noqa: PLC0415

    return command_task(command_name)


#: What ``celery.Task`` takes by position after ``args`` and ``kwargs``.
_APPLY_ASYNC_ARGUMENTS = ("task_id", "producer", "link", "link_error", "shadow")
_APPLY_ARGUMENTS = ("link", "link_error", "task_id", "retries", "throw", "logfile", "loglevel", "headers")


def _name(names: Sequence[str], values: Sequence[Any], options: dict[str, Any]) -> None:
    """Put arguments given by position among the options; raises ``TypeError`` where Python would."""
    if len(values) > len(names):
        msg = f"at most {len(names) + 2} positional arguments are taken, and {len(values) + 2} were given"
        raise TypeError(msg)
    for name, value in zip(names, values, strict=False):
        if name in options:
            msg = f"multiple values for argument {name!r}"
            raise TypeError(msg)
        options[name] = value


class DjangoTask(Hooks, _Task):
    """Base class for tasks: ``@app.task(base=DjangoTask, unique=True)``.

    Celery's handlers ``before_start``, ``on_success``, ``on_failure`` and ``on_retry`` are defined here, to call the
    hooks ``on_task_*``. If you override one of them, call ``super()``.
    """

    abstract = True

    #: Allow only one queued or running task per key.
    unique: bool = False
    #: Names of the arguments that make the key; None: all of them.
    unique_keys: Sequence[str] | None = None
    #: ``f(task, prefix, task_args, task_kwargs) -> str``
    unique_key_generator: Callable[..., str] = default_unique_key_generator
    #: What happens to a duplicate: ``"join"``, ``"raise"``, ``"skip"`` or ``"replace"``.
    unique_on_conflict: str = "join"
    #: When the claim ends: at the ``"finish"`` of the task, or at the ``"start"`` of its body.
    unique_until: str = "finish"
    #: Seconds (or a timedelta) a claim can last: from sending to the start, and again from the start to the end.
    stale_time_limit: float | timedelta | None = None
    #: What a call does if the store can't be reached: ``"raise"``, or ``"publish"`` without a claim.
    unique_on_store_error: str = "raise"
    #: Seconds (or a timedelta) the claim of a running task outlives its worker; None: the setting LOCK_TIMEOUT.
    lease_timeout: float | timedelta | None = None
    #: Seconds (or a timedelta) a message may wait in its queue; None: the setting.
    max_queue_waiting_time: float | timedelta | None = None
    #: Open the ignore window after each success.
    ignore_task_after_success: bool = False
    #: Seconds (or a timedelta) the ignore window stays open.
    ignore_task_timedelta: timedelta | float | None = None
    #: Seconds (or timedeltas) before retry 1, 2, …; their number is ``max_retries`` unless that is given.
    default_retry_delays: Sequence[float | timedelta] | None = None

    queue: Queue = Queue()
    if TYPE_CHECKING:
        max_retries: int | None  # set for subclasses below

        def delay(self, *args: Any, **kwargs: Any) -> InvocationResult:
            """Call ``apply_async`` with these arguments."""

    _policy: ClassVar[Policy | None] = None

    # --- declaration -------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = vars(cls)
        owner = declared.get("name") or cls.__qualname__
        bases = cls.__mro__[1:]
        if declared.get("_decorated"):
            known = {name for base in bases for name in (*vars(base), *getattr(base, "__annotations__", ()))}
            check_declaration(owner, declared, known)
        else:
            attributes = {name: value for name, value in declared.items() if not callable(value)}
            check_declaration(owner, attributes, {name for base in bases for name in dir(base)})
        delays = retry_delays(owner, cls.default_retry_delays)
        if delays is not None and "default_retry_delays" in declared and "max_retries" not in declared:
            cls.max_retries = len(delays)
        take_queue(cls)

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        """Bind the class to its app; a unique or ignored task gets its guard here."""
        super().bind(app)
        if cls.run is not Task.run:
            # Celery binds the class, and a body can only be looked at through an instance.
            task = object.__new__(cls)
            cls._policy = policy_of(task)
            cls.policy = cls._policy  # type: ignore[method-assign, assignment]  # asked for at every turn
            if cls._policy.guarded and not getattr(vars(cls).get("__call__"), "guards", False):
                guard(cls, custom=task_has_custom(task, "__call__"), claims=cls._policy.claims)
        return app

    @property
    def policy(self) -> Policy:
        """The options of this task, resolved."""
        if self._policy is None:
            _ = self.app  # binds the class
        return policy_of(self) if self._policy is None else self._policy

    # --- invoking ----------------------------------------------------------------------------------------

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *positional: Any,
        **options: Any,
    ) -> Any:
        """Send the task now, unless it is a duplicate or ignored.

        Takes all options of ``celery.Task.apply_async``, and ``stale_time_limit``, ``max_queue_waiting_time``,
        ``unique_on_conflict`` and ``unique_on_store_error``.

        Raises ``InvalidOption`` for an invalid option, ``UniqueTaskConflict`` for a duplicate (with
        ``unique_on_conflict="raise"``), ``StoreUnavailable`` if the cache can't be reached, and whatever Celery raises.
        """
        if positional:
            _name(_APPLY_ASYNC_ARGUMENTS, positional, options)
        if options.get("retries"):
            return resend(self, args, kwargs, options, self.send)
        return dispatch(self, args, kwargs, options, send=self.send, eager=self.eager)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> InvocationResult:
        """Call ``delay`` when the transaction commits; the result has its id at once."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        using: str | None = None,
        **options: Any,
    ) -> InvocationResult:
        """Call ``apply_async`` when the transaction on the database ``using`` commits; never if it is rolled back.

        Arguments and options are checked now. A countdown counts from the commit. Raises ``InvalidOption`` for an
        unknown database, and ``UnmanagedTransaction`` if autocommit is off.
        """
        check_database(self.name, using)
        return dispatch(
            self,
            args,
            kwargs,
            options,
            send=self.send,
            eager=self.eager,
            when=partial(one_on_commit, using),
        )

    def apply_async_and_get_result(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        propagate: bool = True,
        **options: Any,
    ) -> Any:
        """Call ``apply_async``, wait up to ``timeout`` seconds (None: for ever), and return what the task returned.

        If the task fails, its exception is raised here, unless ``propagate`` is False. After ``timeout`` seconds, the
        hook ``on_invocation_timeout`` is called and ``celery.exceptions.TimeoutError`` is raised. If the task stores
        no result, ``ResultBackendMissing`` is raised before anything is claimed or sent.
        """
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
            msg = f"{self.name}: timeout is {timeout!r}; give a number of seconds, or None to wait for ever"
            raise InvalidOption(msg)
        if not self.eager and diversion.take is None:
            result_backends.require_result(self, options)
        result = self.apply_async(args, kwargs, **options)
        if timeout is not None and timeout <= 0 and not result.ready():
            exc = CeleryTimeoutError("The operation timed out.")
            result.timed_out(exc)
            raise exc
        return result.get(timeout=timeout, propagate=propagate)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *positional: Any,
        **options: Any,
    ) -> Any:
        """Run the task here and now; a unique one claims its key first."""
        _name(_APPLY_ARGUMENTS, positional, options)
        current = sending.get()
        inner = isinstance(current, EagerInvocationResult) and current.id == options.get("task_id")
        if inner or options.get("retries"):  # from task_always_eager, or a retry of an eager run
            return self.run_here(args, kwargs, **options)
        return dispatch(self, args, kwargs, options, send=self.run_here, eager=True)

    def delay_many(
        self, args_list: Iterable[Sequence[Any]], *, progress: Progress | None = None
    ) -> list[InvocationResult]:
        """Call the task once for each sequence of positional arguments: see :meth:`apply_async_many`."""
        return dispatch_many(
            self, args_list, {}, send=self.send, eager=self.eager, progress=progress, alone=True
        )

    def apply_async_many(
        self, calls: Iterable[Call], *, progress: Progress | None = None, **options: Any
    ) -> list[InvocationResult]:
        """Call the task once for each ``(args, kwargs)``, or args alone; return one result for each, in order.

        All calls are checked before the first one is claimed or sent. ``progress(done, total)`` is called after
        every five hundred. The options are those of ``apply_async``, except ``task_id``, and apply to each call.

        Raises ``ManyNotSent`` if not all calls could be sent; it says which.
        """
        return dispatch_many(self, calls, options, send=self.send, eager=self.eager, progress=progress)

    def delay_many_on_commit(
        self,
        args_list: Iterable[Sequence[Any]],
        *,
        using: str | None = None,
        progress: Progress | None = None,
    ) -> list[InvocationResult]:
        """Call ``delay_many`` when the transaction on the database ``using`` commits."""
        check_database(self.name, using)
        when = partial(many_on_commit, using, progress)
        return dispatch_many(
            self, args_list, {}, send=self.send, eager=self.eager, progress=progress, when=when, alone=True
        )

    def apply_async_many_on_commit(
        self,
        calls: Iterable[Call],
        using: str | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> list[InvocationResult]:
        """Call ``apply_async_many`` when the transaction on the database ``using`` commits."""
        check_database(self.name, using)
        when = partial(many_on_commit, using, progress)
        return dispatch_many(
            self, calls, options, send=self.send, eager=self.eager, progress=progress, when=when
        )

    @property
    def eager(self) -> bool:
        """Whether tasks run where they are called, instead of being sent."""
        (always,) = configured(self.app, "task_always_eager")
        return bool(always) and diversion.take is None

    def send(self, args: Any, kwargs: Any, **options: Any) -> Any:
        """Send the message as Celery does, without what this class adds to a call."""
        if diversion.take is not None:
            return diversion.take(self, args, kwargs, options)
        if settings.AUTO_SQS_MESSAGE_GROUP_ID:
            sqs.address(options)
        if options.get("countdown") or options.get("eta"):
            leave_to_worker(self.app, options)
        mandatory = options.get("mandatory", getattr(self, "mandatory", None))
        if mandatory or "connect_timeout" in options:
            return deliver(self.app, super().apply_async, args, kwargs, options, mandatory=bool(mandatory))
        return publishing.send(self, args, kwargs, options, super().apply_async)

    def run_here(self, args: Any, kwargs: Any, **options: Any) -> Any:
        """Run the task as Celery's ``apply`` does, without what this class adds to a call."""
        return super().apply(args, kwargs, **options)

    def check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise ``TypeError`` for arguments that the task does not accept (unless it has ``typing=False``)."""
        check_arguments = getattr(self, "__header__", None)
        if self.typing and check_arguments is not None:
            check_arguments(*args, **kwargs)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[Any]:  # noqa: N802
        """Return the result of a task id; for a task that is just being sent, the one its caller gets."""
        current = sending.get()
        if current is not None and current.id == task_id and not isinstance(current, EagerInvocationResult):
            return current
        return InvocationResult(task_id, backend=self.backend, task_name=self.name, app=self.app, **kwargs)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        default_retry_delays: Sequence[float | timedelta] | None = None,
        **options: Any,
    ) -> Any:
        """Retry the task after the next of ``default_retry_delays``, unless ``eta`` or ``countdown`` says when.

        ``default_retry_delays`` passed here (seconds or timedeltas) replace those of the task, and set ``max_retries``
        unless that is passed too. Everything else is as in ``celery.Task.retry``.
        """
        check_retry_options(self.name, options)
        delays = retry_delays(self.name, default_retry_delays)
        if delays is not None and max_retries is None:
            max_retries = len(delays)
        if delays is None:
            delays = retry_delays(self.name, self.default_retry_delays)
        if delays and eta is None and countdown is None:
            delay = delays[min(self.request.retries, len(delays) - 1)]
            countdown = seconds(delay, "default_retry_delays", or_zero=True)
        return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)

    # --- state -------------------------------------------------------------------------------------------

    def is_processing(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> bool:
        """Return whether a task with these arguments is queued or running.

        Raises ``TaskConfigurationError`` if the task is not unique.
        """
        if not self.policy.unique:
            msg = (
                f"{self.name} is not unique, so nobody knows whether it is queued or running; set unique=True"
            )
            raise TaskConfigurationError(msg)
        args, kwargs = args or (), kwargs or {}
        check_arguments(self, args, kwargs)
        name = unique_name(self, settings.UNIQUE_TASK_KEY_PREFIX, args, kwargs)
        return claim_store(eager=self.eager).holding(name) is not None

    @property
    def claim(self) -> Claim:
        """The claim of the current run, with ``.lost``, ``.ensure()`` and ``.fence``.

        Raises ``TaskConfigurationError`` outside the body of a task that holds a claim.
        """
        execution: Execution | None = getattr(self.request, EXECUTION, None)
        if execution is None or execution.claim is None:
            msg = f"{self.name} holds no claim here: that is so only in the body of a task with unique=True"
            raise TaskConfigurationError(msg)
        return execution.claim

    def set_ignore_task(self, ignore_task_timedelta: timedelta | float | None = None) -> None:
        """Open the ignore window for the arguments of the current run, from now on.

        It stays open for ``ignore_task_timedelta`` (seconds or a timedelta), by default that of the task.

        Raises ``TaskConfigurationError`` outside a run, and for a task that has no ``ignore_task_timedelta``.
        """
        policy = self.policy
        execution: Execution | None = getattr(self.request, EXECUTION, None)
        if not policy.window:
            msg = f"{self.name} has no ignore_task_timedelta, so its calls do not look at ignore windows; give it one"
            raise TaskConfigurationError(msg)
        if execution is None:
            msg = f"{self.name}.set_ignore_task() was called outside of a run of the task"
            raise TaskConfigurationError(msg)
        window = policy.default_window
        if ignore_task_timedelta is not None:
            window = seconds(ignore_task_timedelta, "ignore_task_timedelta")
        if window is not None:
            claim_store(eager=execution.eager).open_window(execution.header.name, execution.task_id, window)

    def get_command_kwargs(self) -> dict[str, Any]:
        """Return options that a command task passes to its command in every run; override it to add some."""
        return {}

    # --- Celery's handlers, which tell our hooks -----------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Call ``on_task_start``. A unique or ignored task calls it later, when it is known that it may run.

        Raises Celery's ``Ignore`` for the second message of a beat slot.
        """
        start_once(self)
        if not self.policy.guarded:
            events.STARTED.tell(self, task_id, args, kwargs)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Call ``on_task_success``."""
        events.SUCCEEDED.tell(self, task_id, args, kwargs, retval)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Call ``on_task_failure``."""
        events.FAILED.tell(self, task_id, args, kwargs, exc, einfo)

    def on_retry(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Call ``on_task_retry``."""
        retry = getattr(einfo, "exception", None)
        if not isinstance(retry, Retry):
            retry = getattr(retry, "exc", None)  # billiard wraps it to carry its traceback
        eta = retry_eta(getattr(retry, "when", None), self.app.now())
        events.RETRIED.tell(self, task_id, args, kwargs, exc, eta)
