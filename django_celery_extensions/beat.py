"""The beat scheduler of which many can run and one fires.

Not in this release: the name is taken so that a configuration can't come to mean something weaker.
"""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler
from django.core.exceptions import ImproperlyConfigured


class LockedPersistentScheduler(PersistentScheduler):
    """Refuses to run until it can keep its promise: an unlocked beat beside another one fires everything twice."""

    def setup_schedule(self) -> None:
        """Raise ``ImproperlyConfigured``: leadership is not implemented yet."""
        msg = (
            "django_celery_extensions.beat.LockedPersistentScheduler is not available in this release; run one beat "
            "with Celery's own scheduler (-S celery.beat.PersistentScheduler) until it is"
        )
        raise ImproperlyConfigured(msg)

    def __init__(self, *args: Any, lazy: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, lazy=lazy, **kwargs)
