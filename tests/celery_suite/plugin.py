"""A pytest plugin for Celery's suite: Django is configured, and DCE_TASK names every app's task class.

It lies on its own folder's path in a venv that has neither our tests nor their requirements.
"""

from __future__ import annotations

import os

import django
from django.conf import settings

settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
django.setup()

if "DCE_TASK" in os.environ:
    from celery.app.base import Celery

    Celery.task_cls = os.environ["DCE_TASK"]
