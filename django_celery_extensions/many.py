"""Many calls at once: every one is checked before the first is admitted.

Then they are sent as :mod:`~django_celery_extensions.chunks` does; an error says which were not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_celery_extensions import events, sqs
from django_celery_extensions.calls import plan
from django_celery_extensions.chunks import send_each
from django_celery_extensions.exceptions import InvalidOption, ManyNotSent
from django_celery_extensions.invocation import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django_celery_extensions.calls import Plan, Prepared, Send
    from django_celery_extensions.chunks import Progress
    from django_celery_extensions.results import InvocationResult
    from django_celery_extensions.task import DjangoTask

    _Split = tuple[Sequence[Any] | None, Mapping[str, Any] | None]
    Call = Sequence[Any] | _Split


def dispatch_many(
    task: DjangoTask,
    calls: Iterable[Call],
    options: dict[str, Any],
    *,
    send: Send,
    eager: bool,
    progress: Progress | None = None,
    when: Callable[[list[Prepared]], None] | None = None,
    alone: bool = False,
) -> list[InvocationResult]:
    """Take many calls of one task from asking to sending; return their results in order.

    ``alone``: a call is its positional arguments, and nothing else.
    ``when`` takes the calls that have been checked, and sees to the rest at the commit. None: at once.
    Raises :class:`ManyNotSent` where not all were sent, and what is wrong with a call as it is.
    """
    for name in ("task_id", sqs.DEDUPLICATION):
        if options.get(name) is not None:
            msg = f"{task.name}: many calls can't share the {name} {options[name]!r}"
            raise InvalidOption(msg)
    told: Any = progress
    if told is not None and not callable(told):
        msg = f"{task.name}: progress is {told!r}; give a function of (done, total)"
        raise InvalidOption(msg)
    made = plan(task, dict(options), send=send, eager=eager, later=True)
    made.store()  # as in a single call: what is wrong with it is an error now
    prepared = list(_prepared(made, calls, _alone if alone else _arguments))
    results = [call.result for call in prepared]
    _tell_applied(prepared, on_commit=when is not None)
    if when is not None:
        when(prepared)
    elif prepared:
        send_all(prepared, progress)
    return results


def _prepared(planned: Plan, calls: Iterable[Call], split: Callable[[Any], _Split]) -> Iterator[Prepared]:
    number, backend = 0, planned.task.backend  # that of the thread that calls
    try:
        for number, arguments in enumerate(map(split, calls)):  # noqa: B007 - told where it failed
            yield planned.call(*arguments, backend)
    except Exception as exc:
        if hasattr(exc, "add_note"):  # from Python 3.11 on
            exc.add_note(f"in call {number} of many")
        raise


def _tell_applied(calls: list[Prepared], *, on_commit: bool) -> None:
    for call in calls:
        call.result.on_commit = on_commit
        events.APPLIED.tell(call.plan.task, *call.told, call.given, call.result)


def _alone(call: Any) -> _Split:
    return call, None


def _arguments(call: Any) -> _Split:
    """Return args and kwargs of one of many: a tuple of both, or args alone."""
    match call:
        case (None | list() | tuple(), None | dict() | Mapping()) if isinstance(call, tuple):
            return call
    return call, None


def send_all(calls: list[Prepared], progress: Progress | None = None) -> None:
    """Send calls of one task as :func:`send_each`; raises :class:`ManyNotSent` where not all were sent."""
    share = Share.of(calls)
    try:
        send_each(calls, progress)
    except Exception as exc:
        error = share.error()
        if error is None:
            raise
        raise error from exc


@dataclass(frozen=True, kw_only=True)
class Share:
    """What is left of the calls of one task after they were sent, or should have been."""

    task_name: str
    results: list[InvocationResult]
    #: Outcomes of calls that were not sent.
    refused: set[Outcome]

    @classmethod
    def of(cls, calls: list[Prepared]) -> Share:
        """Return that of calls that go the same way."""
        plan, refused = calls[0].plan, {Outcome.WAITING}
        if plan.on_conflict == "raise":
            refused.add(Outcome.UNIQUE)
        return cls(task_name=plan.task.name, results=[call.result for call in calls], refused=refused)

    def error(self) -> ManyNotSent | None:
        """Return the error of calls that were not all sent; None where they were."""
        lost = [at for at, result in enumerate(self.results) if result.outcome in self.refused]
        uncertain = [at for at, result in enumerate(self.results) if result.outcome is Outcome.UNCERTAIN]
        return ManyNotSent(self.task_name, self.results, lost, uncertain) if lost or uncertain else None
