"""What happens when Django starts: the app is found, command tasks are made, checks are registered."""

from __future__ import annotations

from celery import current_app
from django.apps import AppConfig
from django.core.checks import register

from django_celery_extensions.config import imported, settings


class DjangoCeleryExtensionsConfig(AppConfig):
    """The app ``django_celery_extensions``."""

    name = "django_celery_extensions"
    verbose_name = "Django Celery extensions"

    def ready(self) -> None:
        """Set the library up; everything else happens when it is used."""
        # They import tasks and models, which are there only now.
        from django_celery_extensions import checks, commands, production_checks, worker  # noqa: PLC0415

        imported("CELERY_SETTINGS")
        if settings.CELERY_AUTODISCOVER:
            current_app.autodiscover_tasks(force=True)
        commands.make_command_tasks()
        worker.watch_unknown()
        for check in (*checks.CHECKS, *production_checks.CHECKS):
            register(check, "django_celery_extensions")
        for check in production_checks.DEPLOY_CHECKS:
            register(check, "django_celery_extensions", deploy=True)
