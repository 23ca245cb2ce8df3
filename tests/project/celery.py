"""The Celery app of the test project."""

from __future__ import annotations

import os

from kombu.transport import TRANSPORT_ALIASES

from django_celery_extensions.celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
TRANSPORT_ALIASES["wholefiles"] = "tests.project.filesystem:Transport"

app = Celery("tests.project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["tests.project"], related_name="usage")
app.autodiscover_tasks(["tests.project"], related_name="locking")
app.autodiscover_tasks(["tests.project"], related_name="costs")
