"""``manage.py beat_status``: who leads beat, and where each entry stands."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError

from django_celery_extensions.beat_status import beat_status
from django_celery_extensions.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django_celery_extensions.beat_status import BeatStatus, EntryStatus

#: Exit codes, for health checks. 0: somebody leads.
NOT_LED, UNKNOWN = 1, 2


class Command(BaseCommand):
    """Shows what the stores say; exit code 0 if somebody leads, 1 if nobody does, 2 if the store can't be asked."""

    help = "Show who leads beat, and the last slot and the next one of each entry."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="one JSON object, for other programs")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002 - Django's signature
        """Show it."""
        try:
            status = beat_status(current_app)
        except StoreUnavailable as exc:
            raise CommandError(str(exc), returncode=UNKNOWN) from exc
        self.stdout.write(as_json(status) if options["json"] else as_text(status))
        if status.leader is None:
            msg = "nobody leads"
            raise CommandError(msg, returncode=NOT_LED)


def as_json(status: BeatStatus) -> str:
    """Return the status as one JSON object; moments are ISO 8601, None where there are none."""
    leader = None
    if status.leader is not None:
        leader = {
            "owner": status.leader.owner,
            "since": _since(status).isoformat(),
            "fence": status.leader.fence,
            "lease_left": status.leader.expires_in,
        }
    said = {
        "name": status.name,
        "now": status.now.isoformat(),
        "led": leader is not None,
        "leader": leader,
        "entries": [asdict(entry) for entry in status.entries],
    }
    return json.dumps(said, indent=2, default=datetime.isoformat)


def as_text(status: BeatStatus) -> str:
    """Return the status for people."""
    if status.leader is None:
        lines = [f"{status.name}: nobody leads"]
    else:
        left = status.leader.expires_in
        ends = "" if left is None else f", its lease ends in {left:.1f} s unless renewed"
        since = f"since {_since(status):%Y-%m-%d %H:%M:%S %Z}"
        fence = f"(fence {status.leader.fence}{ends})"
        lines = [f"{status.name}: led by {status.leader.owner} {since} {fence}"]
    table = [("entry", "task", "runs", "last slot", "next due", "")]
    table += [_row(entry) for entry in status.entries]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines)


def _row(entry: EntryStatus) -> tuple[str, str, str, str, str, str]:
    remark = entry.error or ("claimed, not known to be sent" if entry.pending else "")
    if not remark and entry.next_due is None and entry.task is not None:
        remark = "not seen by a leader yet"
    task = "(not in the configuration)" if entry.task is None else entry.task
    return entry.name, task, str(entry.runs), _moment(entry.last_slot), _moment(entry.next_due), remark


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _since(status: BeatStatus) -> datetime:
    since = 0.0 if status.leader is None else status.leader.since
    return datetime.fromtimestamp(since, timezone.utc).astimezone(status.now.tzinfo)
