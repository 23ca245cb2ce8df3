"""Calls that wait for a commit: those of one transaction go out together.

Each call registers a callback of its own with Django, so that a savepoint takes its calls with it and tests see as
many callbacks as there were calls. Callbacks that follow each other with nothing else between them, under the same
savepoints, share their fate and make a group: at the commit, the first of them sends the whole group as
:mod:`~django_celery_extensions.chunks` does, and nothing is left to do for the others.

Inside of a transaction, where a test runs the callbacks itself, each sends its own calls only.

An error is what it is without us: what was before it is sent, and Django drops every callback that comes after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from django_celery_extensions.chunks import send_each
from django_celery_extensions.exceptions import InvalidOption, UnmanagedTransaction
from django_celery_extensions.many import Share, send_all

if TYPE_CHECKING:
    from django_celery_extensions.calls import Prepared
    from django_celery_extensions.chunks import Progress


def check_database(task_name: str, using: str | None) -> None:
    """Raise for a database whose commit nobody would tell us of.

    :class:`InvalidOption` for an unknown alias, :class:`UnmanagedTransaction` where autocommit is off. Within
    ``atomic()`` Django waits with its callbacks until autocommit is on again, which may be never.
    """
    if using is not None and using not in [*connections.settings]:
        known = ", ".join(map(repr, connections.settings))
        msg = f"{task_name}: using is {using!r}, but DATABASES has {known}"
        raise InvalidOption(msg)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        told = connection.commit_on_exit or connection.settings_dict["AUTOCOMMIT"]
    else:
        told = connection.get_autocommit()
    if not told:
        msg = (
            f"{task_name}: autocommit is off in the database {connection.alias!r}, so that Django does not know when its "
            "transaction commits. Call within atomic() and with autocommit on, or call delay or apply_async after the commit"
        )
        raise UnmanagedTransaction(msg)


def one_on_commit(using: str | None, call: Prepared) -> None:
    """Send a call when the transaction of the database ``using`` commits; without one, at once."""
    _Callback([call], using, many=False).register()


def many_on_commit(using: str | None, progress: Progress | None, calls: list[Prepared]) -> None:
    """Send many calls then."""
    if calls:
        _Callback(calls, using, many=True, progress=progress).register()


class _Callback:
    """What Django calls at the commit."""

    def __init__(
        self, calls: list[Prepared], using: str | None, *, many: bool, progress: Progress | None = None
    ) -> None:
        self._calls = calls
        self._using = using
        self._many = many
        self._progress = progress
        self._done = False
        self._group = [self]

    def register(self) -> None:
        """Register with Django, and join the group of the callback before it where both share their fate."""
        connection = transaction.get_connection(self._using)
        before = connection.run_on_commit[-1:] if connection.in_atomic_block else []
        transaction.on_commit(self, using=self._using)
        if before and not self._done:
            self._join(before[0], connection.run_on_commit[-1])

    def _join(self, before: Any, own: Any) -> None:
        savepoints, callback, *_ = before
        if not isinstance(callback, _Callback) or own[1] is not self or own[0] != savepoints:
            return
        if self._progress is None and callback._progress is None:  # noqa: SLF001 - one of us
            self._group = callback._group  # noqa: SLF001 - likewise
            self._group.append(self)

    def __call__(self) -> None:
        if self._done:
            return
        callbacks = [self]
        if not transaction.get_connection(self._using).in_atomic_block:
            callbacks = [callback for callback in self._group if not callback._done]  # noqa: SLF001 - likewise
        calls = [callback._take() for callback in callbacks]  # noqa: SLF001 - likewise
        if len(callbacks) > 1:
            _send_group(callbacks, calls)
        elif self._many:
            send_all(calls[0], self._progress)
        else:
            send_each(calls[0])

    def _take(self) -> list[Prepared]:
        self._done = True
        calls, self._calls = self._calls, []
        return calls


def _send_group(callbacks: list[_Callback], calls: list[list[Prepared]]) -> None:
    shares = [Share.of(each) for each in calls]
    try:
        send_each([call for each in calls for call in each])
    except Exception as exc:
        for callback, share in zip(callbacks, shares, strict=True):
            error = share.error()
            if error is not None and callback._many:  # noqa: SLF001 - likewise
                raise error from exc
            if error is not None:
                break
        raise
