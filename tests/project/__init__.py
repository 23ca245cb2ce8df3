"""The Django project of the tests: `celery -A tests.project worker` runs it."""

from tests.project.celery import app

__all__ = ["app"]
