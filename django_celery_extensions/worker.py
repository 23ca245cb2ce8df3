"""Endings that only the worker's parent process sees: revoke, expiry, hard time limit, a lost child, an unknown task.

Celery tells them to the request of a message, so a task that holds claims has a request class of its own. It settles
a claim there by the owner token that it gave to this delivery, which no other execution has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billiard.exceptions import TimeLimitExceeded
from celery import signals
from celery.worker.request import Request as CeleryRequest

from django_celery_extensions.invocation import read_header
from django_celery_extensions.settling import abandon, mark_delivery, settle_unknown

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool
    from kombu import Message

    from django_celery_extensions.task import DjangoTask


class Request(CeleryRequest):
    """A delivery of the message of a task that holds claims."""

    task: DjangoTask
    _already_revoked: bool

    #: Owner token of the execution that this delivery becomes; None where the task holds no claims.
    _token: str | None = None
    _requeued = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.task.policy.claims:
            self._token = mark_delivery(self.request_dict)

    def reject(self, requeue: bool = False) -> None:
        """Note whether the message comes back."""
        self._requeued = requeue and not self.acknowledged
        super().reject(requeue=requeue)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """End the claim after the hard time limit: the child is killed in the body."""
        super().on_timeout(soft, timeout)
        if not soft:
            self._settle(dying=True)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """End the claim when the child was lost; it has settled by itself where it could return (``return_ok``)."""
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        if not return_ok:
            # The pool tells of the time limit before it kills the child.
            exc = exc_info.exception
            self._settle(dying=isinstance(getattr(exc, "exc", exc), TimeLimitExceeded))

    def terminate(self, pool: BasePool, signal: Any = None) -> None:
        """End the claim of a task that is killed."""
        super().terminate(pool, signal=signal)
        if self._already_revoked:
            self._settle(dying=True)

    def cancel(self, pool: BasePool, *args: Any, **kwargs: Any) -> None:
        """Keep the claim of a running task whose message goes back to the broker: the worker shuts down."""
        super().cancel(pool, *args, **kwargs)
        if pool.is_green:
            return  # called from the event loop's hub, which must not wait for a store; the lease ends the claim
        self._requeued = self.task.acks_late and not self.acknowledged
        self._settle(dying=True)

    def revoked(self) -> bool:
        """End the claim of a message that is not started because it was revoked or has expired."""
        before = self._already_revoked
        revoked: bool = super().revoked()
        if revoked and not before:
            self._settle(started=False)
        return revoked

    def _settle(self, *, started: bool = True, dying: bool = False) -> None:
        if self._token is None:
            return
        token = self._token if started and self.time_start is not None else ""
        abandon(self.task, self.request_dict, token=token, requeue=self._requeued, dying=dying)


def watch_unknown() -> None:
    """End the claims of messages whose tasks a worker does not know: it drops them."""
    signals.task_unknown.connect(_give_up_unknown, weak=False, dispatch_uid="django_celery_extensions")


def _give_up_unknown(message: Message, **_: Any) -> None:
    headers: Any = message.headers
    header = read_header(headers, headers.get("id")) if isinstance(headers, dict) else None
    if header is not None and header.claimed:
        settle_unknown(header)
