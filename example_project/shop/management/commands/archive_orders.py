"""Puts old orders away: run by hand, or every night as a Celery task."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from example_project.shop.models import Order


class Command(BaseCommand):
    """Archive the orders that are older than some days."""

    help = "Archive the orders that are older than some days."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the age."""
        parser.add_argument("--older-than-days", type=int, default=30, help="30 unless given; 0: all orders")

    def handle(self, *args: Any, older_than_days: int, **options: Any) -> None:
        """Archive, and say how many there were."""
        if older_than_days < 0:
            raise CommandError("--older-than-days must not be negative")
        now = timezone.now()
        old = Order.objects.filter(archived_at=None, placed_at__lte=now - timedelta(days=older_than_days))
        self.stdout.write(f"orders archived: {old.update(archived_at=now)}")
