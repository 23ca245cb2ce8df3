"""Settings of the chaos run: those of the tests, with the timeouts that a careful project would set."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import CACHES

if CACHES["default"]["BACKEND"].startswith("django_redis"):
    CACHES["default"]["OPTIONS"] |= {"SOCKET_TIMEOUT": 1.0, "SOCKET_CONNECT_TIMEOUT": 1.0}

CELERY_IMPORTS = ["tests.chaos.tasks"]
# Retries, waits and redeliveries are what this is about: nothing may be hidden behind a long prefetch.
CELERY_WORKER_PREFETCH_MULTIPLIER = 2
