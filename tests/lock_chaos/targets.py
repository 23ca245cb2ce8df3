"""What is locked: every name of the run, and how many may hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

#: Names of the tasks, which clients give to take the locks of a task.
LOCK_TASK, MUTEX_TASK, REQUEUED_TASK = "lock_chaos.locked", "lock_chaos.mutex", "lock_chaos.mutex_requeued"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something to hold."""

    kind: str
    name: str
    argument: int = 0
    most: int = 1

    @property
    def label(self) -> str:
        """How histories name it."""
        return f"{self.kind} {self.name}:{self.argument}"

    @property
    def of_task(self) -> bool:
        """Workers hold it too, or alone."""
        return self.name.startswith("lock_chaos.")

    def held(self, **options: Any) -> AbstractContextManager[Any]:
        """Hold it in code that is no task."""
        from django_celery_extensions.locks import lock, semaphore

        if self.kind == "lock":
            return lock(self.name, self.argument, **options)
        return semaphore(self.name, self.argument, max_leases=self.most, **options)


_ALL = (
    *(Target(kind="lock", name="feed", argument=number) for number in range(2)),
    *(Target(kind="lock", name=LOCK_TASK, argument=number) for number in range(2)),
    Target(kind="semaphore", name="printers", most=3),
    Target(kind="semaphore", name=LOCK_TASK, most=3),
    *(Target(kind="mutex", name=MUTEX_TASK, argument=number) for number in range(2)),
    Target(kind="mutex", name=REQUEUED_TASK),
)
TARGETS = {target.label: target for target in _ALL}
