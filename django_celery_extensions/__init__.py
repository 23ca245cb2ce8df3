"""Celery tasks that are safe to use from Django."""

__version__ = "0.1.0"
