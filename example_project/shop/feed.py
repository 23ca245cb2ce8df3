"""What the page shows and the tour reads: events, mails, report and counts."""

from datetime import timedelta
from typing import Any

from django.db.models import Min
from django.utils import timezone

from example_project.shop.models import InvocationEvent, Mail, Order, SalesReport
from example_project.shop.tasks import REPORT_WINDOW

EVENTS_SHOWN = 120
MAILS_SHOWN = 6


def new_events(after: int = 0, limit: int | None = EVENTS_SHOWN) -> list[InvocationEvent]:
    """Give the events with a higher id than ``after``, newest first."""
    return list(InvocationEvent.objects.filter(pk__gt=after)[:limit])


def first_event_id() -> int:
    """Give the lowest id in the log, or one that no event has had yet: lines below it were cleared."""
    lowest: int | None = InvocationEvent.objects.aggregate(lowest=Min("pk"))["lowest"]
    return lowest if lowest is not None else 2**53


def outbox() -> dict[str, Any]:
    """Give the latest mails and their number."""
    mails = Mail.objects.select_related("order__product")
    return {"mails": mails[:MAILS_SHOWN], "mail_count": mails.count()}


def back_office() -> dict[str, Any]:
    """Give the current report, how long requests for a new one are ignored, and the state of the orders."""
    report = SalesReport.objects.first()
    left = report.built_at + REPORT_WINDOW - timezone.now() if report else timedelta()
    return {
        "report": report,
        "ignored_for": max(0, round(left.total_seconds())),
        "open_orders": Order.objects.filter(archived_at=None).count(),
        "archived_orders": Order.objects.exclude(archived_at=None).count(),
    }


def event_data(event: InvocationEvent) -> dict[str, Any]:
    """Give an event as plain data."""
    return {
        "id": event.pk,
        "at": event.at.timestamp(),
        "kind": event.kind,
        "task": event.task,
        "arguments": event.arguments,
        "invocation_id": event.invocation_id,
        "task_id": event.task_id,
        "in_transaction": event.in_transaction,
        "detail": event.detail,
    }
