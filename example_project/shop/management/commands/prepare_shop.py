"""Makes both databases of the shop ready."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Migrate every database; the products come with a migration."""

    help = "Migrate every database of the shop."

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate one database after the other."""
        for alias in settings.DATABASES:
            call_command("migrate", database=alias, verbosity=0, interactive=False)
        self.stdout.write("the shop's databases are ready")
