"""The hooks of a ``DjangoTask``: nine methods that do nothing until you override them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class Hooks:
    """Methods that are called for each call (invocation) and each run of a task.

    ``invocation_id`` identifies the call, ``options`` are those of ``apply_async``, ``result`` is what the caller gets. If
    a hook ``on_invocation_*`` raises, the call fails, and leaves no claim behind.
    """

    def on_invocation_apply(
        self, invocation_id: str, args: Any, kwargs: Any, options: Any, result: Any
    ) -> None:
        """The call was made."""

    def on_invocation_trigger(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """The message is about to be sent: what is written here is there when a worker starts."""

    def on_invocation_unique(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """The call joined the active task ``task_id``."""

    def on_invocation_ignored(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """Nothing is sent: ignore window, or ``unique_on_conflict="skip"``. ``task_id`` is the task that caused it."""

    def on_invocation_timeout(
        self,
        invocation_id: str,
        args: Any,
        kwargs: Any,
        task_id: str,
        ex: Exception,
        options: Any,
        result: Any,
    ) -> None:
        """Waiting for the result timed out."""

    def on_task_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """A worker starts the body."""

    def on_task_retry(
        self, task_id: str, args: Any, kwargs: Any, exc: Exception, eta: datetime | None
    ) -> None:
        """The task failed and will be retried at ``eta``."""

    def on_task_failure(self, task_id: str, args: Any, kwargs: Any, exc: Exception, einfo: Any) -> None:
        """The task failed and will not be retried."""

    def on_task_success(self, task_id: str, args: Any, kwargs: Any, retval: Any) -> None:
        """The task succeeded."""
