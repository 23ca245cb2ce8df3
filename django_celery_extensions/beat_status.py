"""What beat is doing, as the stores tell it: who leads, and where each entry stands. ``manage.py beat_status`` shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_celery_extensions.agenda import next_slot
from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.leadership import beat_name
from django_celery_extensions.slots import NEVER, when
from django_celery_extensions.stores import lease_store, slot_store
from django_celery_extensions.timetable import entry_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, tzinfo

    from celery import Celery

    from django_celery_extensions.stores.leases import Holder
    from django_celery_extensions.stores.slots import SlotRecord


@dataclass(frozen=True, kw_only=True)
class EntryStatus:
    """Where one entry stands."""

    name: str
    #: None for an entry that is in the store only: it was added to a running beat, or is gone from the schedule.
    task: str | None
    last_slot: datetime | None
    next_due: datetime | None
    runs: int
    #: Its last slot is claimed and not known to be sent.
    pending: bool
    #: What is wrong with it.
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class BeatStatus:
    """Who leads a beat, and where its entries stand."""

    name: str
    leader: Holder | None
    entries: Sequence[EntryStatus]
    #: The moment of all this, by the store's clock if it has one.
    now: datetime


def beat_status(app: Celery) -> BeatStatus:
    """Look at the beat of this project; writes nothing.

    Raises ``StoreUnavailable``, and ``TaskConfigurationError`` for a cache that can't be used.
    """
    name = beat_name()
    holders = lease_store().holders(name)
    given = app.conf.beat_schedule
    slots = slot_store().look(name, [*given])
    now = time.time_ns() // 1000 if slots.now is None else slots.now
    tz = app.timezone
    entries = [
        _entry(entry_name, each, slots.records.get(entry_name), now, app)
        for entry_name, each in given.items()
    ]
    for entry_name, record in slots.records.items():
        if entry_name not in given and not record.gone:
            entries.append(_told(entry_name, None, record, tz))
    return BeatStatus(
        name=name,
        leader=holders[0] if holders else None,
        entries=sorted(entries, key=lambda each: each.name),
        now=when(now, tz),
    )


def _entry(
    name: str, given: Mapping[str, Any], record: SlotRecord | None, now: int, app: Celery
) -> EntryStatus:
    task, tz = given.get("task"), app.timezone
    try:
        plan = plan_of(entry_of(name, given, app), tz, app.conf.beat_cron_starting_deadline)
        due = None if record is None else next_slot(plan, record, now, now)
    except TaskConfigurationError as exc:
        return _told(name, task, record, tz, error=str(exc))
    return _told(name, task, record, tz, due)


def _told(
    name: str,
    task: str | None,
    record: SlotRecord | None,
    tz: tzinfo,
    due: int | None = None,
    error: str = "",
) -> EntryStatus:
    return EntryStatus(
        name=name,
        task=task,
        last_slot=when(record.slot, tz) if record is not None and record.slot else None,
        next_due=None if due is None or due >= NEVER else when(due, tz),
        runs=0 if record is None else record.count,
        pending=record is not None and not record.sent,
        error=error,
    )
