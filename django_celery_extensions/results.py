"""Results that exist before the task does.

The result of a call is Celery's ``AsyncResult`` (``EagerResult`` when eager), with one thing added: it knows how the
call ended, and gives the answer itself if there is nothing in the result backend yet, or never will be.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakValueDictionary

from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, EagerResult
from vine import promise

from django_celery_extensions import result_backends
from django_celery_extensions.exceptions import NotTriggeredCeleryError
from django_celery_extensions.invocation import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    # Generic in the stubs only.
    _AsyncResult = AsyncResult[Any]
    _EagerResult = EagerResult[Any]
else:
    _AsyncResult, _EagerResult = AsyncResult, EagerResult

#: State before the commit, and for good after a rollback.
WAITING = "WAITING"
#: State of an invocation, or of a message, that was not run because of its ignore window or its duplicate.
IGNORED = "IGNORED"

_OWN_STATES = {Outcome.WAITING: WAITING, Outcome.IGNORED: IGNORED}

#: Seconds between two looks of a waiter for the state IGNORED, where the result backend tells of no states.
POLL_SECONDS = 2.0
#: Seconds between two looks of a waiter at the claim of the task that its call joined.
LOOK_SECONDS = 5.0

#: Results by reply queue and task id, where the backend is RPC.
_delivered_to: WeakValueDictionary[tuple[str, str], InvocationResult] = WeakValueDictionary()


@cache
def _is_constructor_known(constructor: Any) -> bool:
    """Tell whether Celery's constructor gives a result no more than that: it takes a tenth of what a call takes us."""
    made = InvocationResult.__new__(InvocationResult)
    made.outcome = Outcome.WAITING
    constructor(made, "id", "backend", app="app")
    given = dict(vars(made))
    expected = {
        "id": "id",
        "app": "app",
        "backend": "backend",
        "parent": None,
        "_cache": None,
        "_ignored": False,
    }
    is_promised = type(given.pop("on_ready", None)) is promise
    return is_promised and given == {"outcome": Outcome.WAITING, **expected}


class _OnReady:
    """The promise of a result, made when somebody asks for it: few do, and it takes eight objects."""

    @overload
    def __get__(self, result: None, owner: type) -> _OnReady: ...
    @overload
    def __get__(self, result: InvocationResult, owner: type) -> Any: ...
    def __get__(self, result: InvocationResult | None, owner: type) -> Any:
        if result is None:
            return self
        # Not overwritten: somebody may ask in another thread.
        return vars(result).setdefault("on_ready", promise(result._on_fulfilled, weak=True))  # type: ignore[attr-defined] # noqa: SLF001 - the stubs leave it out


class InvocationResult(_AsyncResult):
    """What every way of calling a ``DjangoTask`` returns.

    ``outcome`` says how the call ended. ``invocation_id`` identifies the call; it is None if the result was looked up by
    its task id.
    """

    if TYPE_CHECKING:  # one of Celery's states, WAITING or IGNORED
        state: str  # type: ignore[assignment] # the stubs know Celery's only
        _cache: dict[str, Any] | None
        status: str  # type: ignore[assignment]

    invocation_id: str | None = None
    outcome: Outcome = Outcome.TRIGGERED
    #: The call waits for a commit, or did.
    on_commit: bool = False
    #: Of a call that joined: tells whether that task has its claim still. None: nobody knows.
    still_held: Callable[[], bool] | None = None
    #: Called with this result and the error when waiting timed out.
    on_timeout: Callable[[InvocationResult, Exception], None] | None = None

    on_ready = _OnReady()

    @classmethod
    def waiting(
        cls, task_id: str, invocation_id: str, *, task: Any, backend: Any, ignored: bool
    ) -> InvocationResult:
        """Return the result of a call that has not ended yet; ``ignored``: it will not be stored."""
        app = task.app
        if _is_constructor_known(AsyncResult.__init__):
            result = cls.__new__(cls)
            result.id, result.app, result.backend = task_id, app, backend
            result.parent, result._cache, result._ignored = None, None, ignored  # type: ignore[attr-defined] # noqa: SLF001 - one of us
        else:
            result = cls(task_id, app=app, backend=backend)
            result.ignored = ignored
        result.invocation_id = invocation_id
        result.outcome = Outcome.WAITING
        if isinstance(backend, result_backends.DELIVERS_ONCE):
            result._share()
        return result

    #: Somebody waits for it: the result backend listens.
    _awaited = False
    #: The result that gets what is delivered for this one too.
    _first: InvocationResult | None = None

    def _share(self) -> None:
        """Share what RPC delivers with the other results of this thread and task: it is delivered once."""
        first = _delivered_to.setdefault((self.app.thread_oid, self.id), self)
        self._first = None if first is self else first

    def __del__(self) -> None:
        # Celery takes every result off its backend's list here. One that was never sent and never waited for is on
        # no list, and taking it off would end the subscription of the task that it joined.
        if self.outcome in (Outcome.TRIGGERED, Outcome.UNCERTAIN) or self._awaited:
            super().__del__()

    def then(self, *args: Any, **kwargs: Any) -> Any:
        """See ``celery.result.AsyncResult.then``."""
        self._awaited = True
        if self.outcome is Outcome.IGNORED and not self.on_ready.ready:
            self.on_ready(self)
        return super().then(*args, **kwargs)

    def __reduce__(self) -> Any:
        known = {"invocation_id": self.invocation_id, "outcome": self.outcome}
        return (*super().__reduce__(), known)

    def __copy__(self) -> Any:
        rebuild, arguments, known = self.__reduce__()  # Celery's own way knows two values
        copied = rebuild(*arguments)
        vars(copied).update(known)
        return copied

    def joined(self, task_id: str, still_held: Callable[[], bool] | None = None) -> None:
        """Become a result of the active task ``task_id``."""
        self.outcome, self.still_held = Outcome.UNIQUE, still_held
        if task_id == self.id:
            return
        backend: Any = self.backend
        if self._awaited:  # then() was called: the backend listens for the old id
            backend.remove_pending_result(self)
        self.id = task_id
        if isinstance(backend, result_backends.DELIVERS_ONCE):
            self._share()
        if self._awaited:
            backend.add_pending_result(self)

    def ignore(self) -> None:
        """Become the result of a task that is not run."""
        self.outcome = Outcome.IGNORED
        if self._awaited:
            self.on_ready(self)

    def timed_out(self, exc: Exception) -> None:
        """Report that waiting for the result timed out."""
        if self.on_timeout is not None:
            self.on_timeout(self, exc)

    def _get_task_meta(self) -> dict[str, Any]:
        state = _OWN_STATES.get(self.outcome)
        if state is not None:
            return {"status": state, "result": None, "traceback": None, "children": [], "task_id": self.id}
        self._need_backend("its state")
        if self._first is not None and self._cache is None:
            self._maybe_set_cache(self._first._get_task_meta())  # noqa: SLF001 - one of us
        meta: dict[str, Any] = super()._get_task_meta()  # type: ignore[misc] # the stubs leave it out
        return meta

    def forget(self) -> None:
        """See ``celery.result.AsyncResult.forget``. Does nothing if no result is stored."""
        if not result_backends.is_missing(self.backend):
            super().forget()

    def _maybe_set_cache(self, meta: dict[str, Any] | None) -> Any:
        if meta and meta["status"] == IGNORED:
            cached = self._set_cache(self.backend.meta_from_decoded(meta))  # type: ignore[attr-defined] # likewise
            self.on_ready(self)
            return cached
        return super()._maybe_set_cache(meta)  # type: ignore[misc] # likewise

    def ready(self) -> bool:
        """Return whether the task has ended. An ignored call has; one that waits for its commit has not."""
        return self.state == IGNORED or (self.outcome is not Outcome.WAITING and super().ready())

    def get(self, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        """Wait for the task and return its result, or None if the call was ignored.

        Raises the exception of a task that failed (unless ``propagate=False``), :class:`NotTriggeredCeleryError` before
        the commit, ``celery.exceptions.TimeoutError`` after ``timeout`` seconds (None: wait for ever),
        ``ResultBackendMissing`` if no result is stored, and ``ResultMissing`` if the call joined a task whose result will
        never reach this caller.
        """
        if self.outcome is Outcome.WAITING:
            msg = (
                f"task {self.id} has not been sent: it waits for its transaction to commit "
                "(and never will be sent after a rollback)"
            )
            raise NotTriggeredCeleryError(msg)
        if self.outcome is Outcome.IGNORED:
            return None
        try:
            return self._wait(timeout, *args, **kwargs)
        except CeleryTimeoutError as exc:
            self.timed_out(exc)
            raise

    wait = get

    def _wait(self, timeout: float | None, *args: Any, joined: _Joined | None = None, **kwargs: Any) -> Any:
        if not self.ignored:
            self._need_backend("get()")
        joined = _Joined(self) if joined is None else joined
        if self._first is not None:
            return self._first._wait(timeout, *args, joined=joined, **kwargs)  # noqa: SLF001 - one of us
        self._awaited = True
        left = float("inf") if timeout is None else timeout
        deadline = time.monotonic() + left
        # Celery's waiters know nothing of the state IGNORED, which a worker stores for a message it drops. Some show
        # each state that arrives; the others have to be interrupted for a look.
        polled = not hasattr(self.backend, "result_consumer")
        if polled:
            interval = kwargs.get("interval")
            step = POLL_SECONDS if interval is None else max(POLL_SECONDS, interval)
        else:
            kwargs["on_message"] = self._seeing(kwargs.get("on_message"))
            step = float("inf") if joined.still_held is None else LOOK_SECONDS
        while True:
            part = min(step, left)
            try:
                return super().get(None if part == float("inf") else part, *args, **kwargs)
            except CeleryTimeoutError:
                left = deadline - time.monotonic()
                if self._cache or left <= 0:  # the task raised it, or the time is over
                    raise
            if polled and self.state == IGNORED:
                return None
            joined.look()

    def _seeing(self, on_message: Callable[[Any], Any] | None) -> Callable[[dict[str, Any]], None]:
        def see_message(meta: dict[str, Any]) -> None:
            if meta.get("task_id") == self.id and meta["status"] == IGNORED:
                self._maybe_set_cache(meta)
            if on_message is not None:
                on_message(meta)

        return see_message

    def _need_backend(self, what: str) -> None:
        result_backends.require(self.backend, self.id, what)


class _Joined:
    """Finds out whether a caller who joined waits in vain, because the task is over and left no result here."""

    def __init__(self, result: InvocationResult) -> None:
        self.result, self.still_held = result, result.still_held
        self._looked_at, self._gone = time.monotonic(), False

    def look(self) -> None:
        """Raise :class:`ResultMissing` if the claim of the task was gone twice in a row, and there is no result.

        The claim ends before the result is stored, which may take a while.
        """
        if self.still_held is None or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        gone = not self.still_held()
        if gone and self._gone and not self.result.ready():
            raise result_backends.missing_result(self.result.backend, self.result.id)
        self._looked_at, self._gone = time.monotonic(), gone


class EagerInvocationResult(InvocationResult, _EagerResult):
    """The result of a task that runs where it is called (``apply``, ``task_always_eager``)."""

    #: Its run has ended the claim of its call.
    claim_ended = False

    # EagerResult reads these off the run; here there may be no run yet, or somebody else's.
    state = status = AsyncResult.state
    result = info = AsyncResult.result
    traceback = AsyncResult.traceback

    @classmethod
    def waiting(
        cls, task_id: str, invocation_id: str, *, task: Any, backend: Any, ignored: bool
    ) -> EagerInvocationResult:
        """Return the result of a call that has not ended yet; ``ignored``: it will not be stored."""
        result = cls(task_id, None, WAITING, name=task.name)
        result.ignored = ignored
        result.invocation_id = invocation_id
        result.outcome = Outcome.WAITING
        result.app, result.backend = task.app, backend
        result.on_ready = promise()
        return result

    def __del__(self) -> None:
        pass  # on no backend's list

    def _need_backend(self, what: str) -> None:
        pass  # it knows by itself what its run came to

    def ran(self, done: Any) -> None:
        """Take over the result of the run."""
        self.outcome = Outcome.TRIGGERED
        self._result, self._state, self._traceback = done._result, done._state, done._traceback  # noqa: SLF001
        self.on_ready(self)

    def _get_task_meta(self) -> dict[str, Any]:
        if self.outcome is Outcome.UNIQUE:
            return self._of_the_active_task()._get_task_meta()  # noqa: SLF001 - one of us
        return super()._get_task_meta()

    def _wait(self, timeout: float | None, *args: Any, **kwargs: Any) -> Any:
        if self.outcome is Outcome.UNIQUE:
            return self._of_the_active_task().get(timeout, *args, **kwargs)
        return super()._wait(timeout, *args, **kwargs)

    def _of_the_active_task(self) -> InvocationResult:
        return InvocationResult(self.id, backend=self.backend, app=self.app)
