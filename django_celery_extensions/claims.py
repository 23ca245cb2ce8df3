"""The claim of a running task: a lease that ends with the body, or at the stale limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_celery_extensions.leases import Lease
from django_celery_extensions.stores import claim_store

if TYPE_CHECKING:
    from django_celery_extensions.stores.base import Holding


class Claim(Lease):
    """What the body of a unique task holds: ``self.claim``."""

    holding: Holding

    def __init__(self, holding: Holding, *, lease: float, stale: float, asked_at: float) -> None:
        store = claim_store(eager=True)
        super().__init__(
            holding,
            place=store.place,
            margin=store.margin,
            length=lease,
            asked_at=asked_at,
            ends_at=asked_at + stale,
        )

    def __str__(self) -> str:
        return f"the claim of {self.holding.name} by task {self.holding.task_id}"

    @property
    def log_extra(self) -> dict[str, Any]:
        """What a log line about it carries."""
        return {"task_id": self.holding.task_id, **super().log_extra}
