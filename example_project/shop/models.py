"""What the shop sells, what was ordered, which mails went out, and what became of every invocation."""

from django.db import models
from django.utils import timezone


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=60)
    note = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=6, decimal_places=2)
    icon = models.SlugField(help_text="Id of the drawing in icons.html")

    class Meta:
        """Products stand in the order in which they were added."""

        ordering = ("pk",)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """One product, bought by one customer."""

    class MailServer(models.TextChoices):
        """How the customer's mail server behaves; see ``mailserver.deliver``."""

        FINE = "fine"
        BUSY = "busy"
        SLOW = "slow"

    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    customer = models.CharField(max_length=60)
    mail_server = models.CharField(max_length=4, choices=MailServer.choices, default=MailServer.FINE)
    placed_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def email(self) -> str:
        """Address of the customer."""
        return f"{self.customer.split()[0].lower()}@example.com"


class Mail(models.Model):
    """A mail that the mail server took."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="mails")
    to = models.EmailField()
    subject = models.CharField(max_length=120)
    attempts = models.PositiveSmallIntegerField()
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.subject


class SalesReport(models.Model):
    """The figures of one moment."""

    built_at = models.DateTimeField(default=timezone.now)
    orders = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=10, decimal_places=2)
    best_seller = models.CharField(max_length=60, blank=True)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"report of {self.built_at:%H:%M:%S}"


class InvocationEvent(models.Model):
    """One line of the event log, written by the hooks of ``ShopTask`` and by the signal receivers."""

    class Kind(models.TextChoices):
        """What happened."""

        APPLIED = "applied", "applied"
        TRIGGERED = "triggered", "sent"
        UNIQUE = "unique", "joined"
        IGNORED = "ignored", "ignored"
        TIMED_OUT = "timed_out", "timed out"
        ROLLED_BACK = "rolled_back", "rolled back"
        STARTED = "started", "started"
        RETRIED = "retried", "retried"
        FAILED = "failed", "failed"
        SUCCEEDED = "succeeded", "succeeded"

    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    task = models.CharField(max_length=60)
    arguments = models.CharField(max_length=120, blank=True)
    invocation_id = models.CharField(max_length=36, blank=True)
    task_id = models.CharField(max_length=36, blank=True)
    in_transaction = models.BooleanField(default=False)
    detail = models.CharField(max_length=200, blank=True)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.task}({self.arguments}) {self.kind}"

    @property
    def hue(self) -> int:
        """Colour, in degrees, that lines about one task share."""
        return int(self.task_id[:4], 16) % 360 if self.task_id else 0
