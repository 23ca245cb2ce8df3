"""The project's Celery app. With this ``Celery`` class every task is a ``DjangoTask`` unless it says otherwise."""

import os

from django_celery_extensions.celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

app = Celery("example_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
