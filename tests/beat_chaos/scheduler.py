"""Our scheduler, with what it claims written down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django_celery_extensions.beat import LockedPersistentScheduler
from tests.chaos.history import note

if TYPE_CHECKING:
    from django_celery_extensions.agenda import Agenda
    from django_celery_extensions.leadership import Leadership


class Recorded(LockedPersistentScheduler):
    def _fire(self, leadership: Leadership, agenda: Agenda) -> None:
        before = {name: record.count for name, record in agenda.records.items()}
        super()._fire(leadership, agenda)
        for name, record in agenda.records.items():
            if record.count != before.get(name):
                note("claim", entry=name, slot=record.slot, fence=record.fence, pid=os.getpid())
