"""Paper Boat: a small shop that shows what django_celery_extensions does.

The Celery app is imported here so that it is there whenever Django is, as Celery's guide for Django says.
"""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
