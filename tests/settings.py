"""Django settings of the tests. In a worker subprocess the environment names the real servers."""

from __future__ import annotations

import json
import os
from typing import Any

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.project.urls"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_celery_results",
    "django_celery_extensions",
    "tests.project",
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TEST_DATABASE", ":memory:"),
        "OPTIONS": {"timeout": 20},
    },
}
# Other databases and caches, or others instead: entries as JSON, for a subprocess.
DATABASES |= json.loads(os.environ.get("TEST_DATABASES", "{}"))


def redis_cache(url: str) -> dict[str, Any]:
    """Return the CACHES entry of a Redis database through django-redis."""
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
    }


REDIS_URL = os.environ.get("TEST_REDIS_URL")
SOCKET_TIMEOUT = os.environ.get("TEST_SOCKET_TIMEOUT")
CACHES: dict[str, dict[str, Any]] = {
    "default": redis_cache(REDIS_URL)
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "default"},
    "locmem": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "locmem"},
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
}
if REDIS_URL and SOCKET_TIMEOUT:
    CACHES["default"]["OPTIONS"] |= {
        "SOCKET_TIMEOUT": float(SOCKET_TIMEOUT),
        "SOCKET_CONNECT_TIMEOUT": float(SOCKET_TIMEOUT),
    }
CACHES |= json.loads(os.environ.get("TEST_CACHES", "{}"))

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "memory://")
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "cache+memory://")
CELERY_TASK_ALWAYS_EAGER = "CELERY_BROKER_URL" not in os.environ
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A worker of the tests logs what its tasks log, and nothing takes over pytest's handlers.
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        "visibility_timeout": int(os.environ["TEST_VISIBILITY_TIMEOUT"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    if "TEST_VISIBILITY_TIMEOUT" in os.environ
    else {}
)
DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = float(os.environ.get("TEST_LOCK_TIMEOUT", "15"))
DJANGO_CELERY_EXTENSIONS_LOCK_SLEEP = float(os.environ.get("TEST_LOCK_SLEEP", "2"))
if "TEST_BEAT_SCHEDULE" in os.environ:
    CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = json.loads(os.environ["TEST_BEAT_SCHEDULE"])
if "TEST_BEAT_SCHEDULER" in os.environ:
    CELERY_BEAT_SCHEDULER = os.environ["TEST_BEAT_SCHEDULER"]
DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS: dict[str, Any] = {
    "clearsessions": {"unique": True}
}

# What a test sets for itself and its worker (tests.sites).
globals().update(json.loads(os.environ.get("TEST_SETTINGS", "{}")))
