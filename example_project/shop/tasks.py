"""The shop's tasks, and the hooks that write down what becomes of them."""

from datetime import datetime, timedelta
from typing import Any

from celery import shared_task
from django.db.models import Count, Sum
from django.utils import timezone

from django_celery_extensions.task import DjangoTask
from example_project.shop.eventlog import Kind, record
from example_project.shop.mailserver import MailServerBusy, deliver
from example_project.shop.models import Order, Product, SalesReport

REPORT_WINDOW = timedelta(minutes=1)


class ShopTask(DjangoTask):
    """Base of the shop's tasks: each hook writes one line of the event log."""

    abstract = True

    def on_invocation_apply(
        self, invocation_id: str, args: Any, kwargs: Any, options: Any, result: Any
    ) -> None:
        """Log that the call was made; the message may have to wait for a commit."""
        record(Kind.APPLIED, self, args, kwargs, invocation_id, result.id)

    def on_invocation_trigger(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """Log that the message goes out now."""
        record(Kind.TRIGGERED, self, args, kwargs, invocation_id, task_id)

    def on_invocation_unique(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """Log that an active task does the work for this call too."""
        record(Kind.UNIQUE, self, args, kwargs, invocation_id, task_id, f"task {task_id[:8]} is on it")

    def on_invocation_ignored(
        self, invocation_id: str, args: Any, kwargs: Any, task_id: str, options: Any, result: Any
    ) -> None:
        """Log that the call came too soon after a success."""
        record(Kind.IGNORED, self, args, kwargs, invocation_id, task_id, "too soon after a success")

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
        """Log that the caller gave up waiting."""
        record(Kind.TIMED_OUT, self, args, kwargs, invocation_id, task_id, ex)

    def on_task_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Log that a worker began."""
        record(Kind.STARTED, self, args, kwargs, None, task_id, f"attempt {self.request.retries + 1}")

    def on_task_retry(
        self, task_id: str, args: Any, kwargs: Any, exc: Exception, eta: datetime | None
    ) -> None:
        """Log why the task will run again, and when."""
        record(Kind.RETRIED, self, args, kwargs, None, task_id, f"{exc}; {wait_until(eta)}")

    def on_task_failure(self, task_id: str, args: Any, kwargs: Any, exc: Exception, einfo: Any) -> None:
        """Log that the task failed for good."""
        record(Kind.FAILED, self, args, kwargs, None, task_id, exc)

    def on_task_success(self, task_id: str, args: Any, kwargs: Any, retval: Any) -> None:
        """Log what the task returned."""
        record(Kind.SUCCEEDED, self, args, kwargs, None, task_id, retval)


def wait_until(eta: datetime | None) -> str:
    """Say in words how far away a time is."""
    return f"again in {(eta - timezone.now()).total_seconds():.0f} s" if eta else "again"


@shared_task(
    base=ShopTask,
    bind=True,
    unique=True,
    stale_time_limit=120,
    autoretry_for=(MailServerBusy,),
    default_retry_delays=(1, 2, 4),
)
def send_confirmation(self: ShopTask, order_pk: int) -> str:
    """Mail the customer that the order was placed. One at a time for each order; a busy mail server is tried again."""
    order = Order.objects.select_related("product").get(pk=order_pk)
    mail = deliver(order, attempt=self.request.retries + 1)
    return f"mail to {mail.to}"


@shared_task(base=ShopTask, ignore_task_after_success=True, ignore_task_timedelta=REPORT_WINDOW)
def rebuild_report() -> str:
    """Add up all orders, at most once in ``REPORT_WINDOW``."""
    totals: dict[str, Any] = Order.objects.aggregate(
        orders=Count("pk"), revenue=Sum("product__price", default=0)
    )
    best = Product.objects.annotate(sold=Count("order")).filter(sold__gt=0).order_by("-sold", "pk").first()
    report = SalesReport.objects.create(best_seller=best.name if best else "", **totals)
    return f"{report.orders} orders"
