"""The shop's views. Each that changes something answers a form with a redirect and a script with JSON."""

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from django_celery_extensions.task import get_django_command_task
from example_project.shop import feed
from example_project.shop.eventlog import Kind, record
from example_project.shop.forms import OrderForm
from example_project.shop.models import InvocationEvent, Mail, Order, Product
from example_project.shop.payments import PaymentDeclined, charge
from example_project.shop.tasks import rebuild_report, send_confirmation


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Save an order and have it confirmed by mail, or neither if the card is declined."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return reply(request, "That order was incomplete.", status=400, errors=form.errors.get_json_data())
    results: list[Any] = []
    try:
        with transaction.atomic():
            order = form.save()
            clicks = range(form.cleaned_data["clicks"])
            results.extend(send_confirmation.delay_on_commit(order.pk) for _ in clicks)
            charge(order, form.cleaned_data["card"])
    except PaymentDeclined as exc:
        for result in results:
            detail = f"{exc}; never sent, stays {result.state}"
            record(
                Kind.ROLLED_BACK, send_confirmation, (order.pk,), None, result.invocation_id, detail=detail
            )
        return reply(request, "The card was declined; the order was rolled back.", results, status=402)
    return reply(request, f"Order {order.pk} placed.", results, order=order.pk)


@require_POST
def resend_confirmation(request: HttpRequest, order_pk: int) -> HttpResponse:
    """Send the confirmation of an order again."""
    order = get_object_or_404(Order, pk=order_pk)
    result = send_confirmation.delay_on_commit(order.pk)
    return reply(request, f"Confirmation of order {order.pk} asked for.", [result], order=order.pk)


@require_POST
def request_report(request: HttpRequest) -> HttpResponse:
    """Have the report rebuilt, unless that was done within the last minute."""
    result = rebuild_report.delay_on_commit()
    return reply(request, "New report asked for.", [result])


@require_POST
def run_archive(request: HttpRequest) -> HttpResponse:
    """Run the nightly command now, for orders of any age."""
    result = get_django_command_task("archive_orders").delay_on_commit(older_than_days=0)
    return reply(request, "Nightly command started.", [result])


@require_POST
def clear(request: HttpRequest) -> HttpResponse:
    """Forget the log and the mails. Orders and the report stay: tasks may be at work on them."""
    InvocationEvent.objects.all().delete()
    Mail.objects.all().delete()
    return reply(request, "Log and mails cleared.")


@require_GET
@ensure_csrf_cookie
def index(request: HttpRequest) -> HttpResponse:
    """Show the shop beside the live log."""
    context = {"products": Product.objects.all(), "events": feed.new_events()}
    return render(request, "shop/index.html", {**context, **feed.outbox(), **feed.back_office()})


@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """Give what changes on the page, rendered: only log lines after ``?after=``, and the panels."""
    events = feed.new_events(after_parameter(request))
    fragments = {
        "first": feed.first_event_id(),
        "events": render_to_string("shop/events.html", {"events": events}),
        "outbox": render_to_string("shop/outbox.html", feed.outbox(), request),
        "office": render_to_string("shop/office.html", feed.back_office()),
    }
    return JsonResponse(fragments)


@require_GET
def log(request: HttpRequest) -> HttpResponse:
    """Give the log after ``?after=`` as data, oldest first."""
    events = feed.new_events(after_parameter(request), limit=None)
    return JsonResponse({"events": [feed.event_data(event) for event in reversed(events)]})


@require_GET
def mails(request: HttpRequest) -> HttpResponse:
    """Give every mail that went out as data, oldest first."""
    sent = Mail.objects.order_by("pk").values("order_id", "to", "subject", "attempts")
    return JsonResponse({"mails": list(sent)})


def after_parameter(request: HttpRequest) -> int:
    """Read ``?after=``; 0 where it is missing or no number."""
    value = request.GET.get("after", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 17 else 0


def reply(
    request: HttpRequest, message: str, results: Sequence[Any] = (), status: int = 200, **data: Any
) -> HttpResponse:
    """Answer a script with JSON that tells what became of each invocation, and a form with a redirect."""
    if not request.accepts("text/html"):
        invocations = [
            {
                "invocation_id": str(result.invocation_id),
                "task_id": result.id,
                "outcome": str(result.outcome),
                "state": result.state,
            }
            for result in results
        ]
        return JsonResponse({"message": message, "invocations": invocations, **data}, status=status)
    messages.add_message(request, messages.SUCCESS if status == 200 else messages.WARNING, message)
    return redirect("index")
