"""Settings of the example project. What differs between runs comes from the environment:

========================  ==========================================================================
``REDIS_URL``             Redis for the cache (next database number) and the results
``CELERY_BROKER_URL``     the broker; ``REDIS_URL`` unless given
``SHOP_DATA``             folder of the SQLite files; ``.demo`` beside ``manage.py`` unless given
``SHOP_NAMESPACE``        keeps several runs on one Redis apart: cache prefix and queue carry it
========================  ==========================================================================
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.schedules import crontab

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("SHOP_DATA") or BASE_DIR / ".demo")
DATA_DIR.mkdir(parents=True, exist_ok=True)
NAMESPACE = os.environ.get("SHOP_NAMESPACE") or "shop"
REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"

# A toy on a loopback address: nothing here is fit for production.
SECRET_KEY = "paper-boat-is-only-an-example"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_extensions",
    "example_project.shop",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"


def sqlite(name: str) -> dict[str, Any]:
    """Give a SQLite database that several processes can write to.

    WAL lets readers go on while one process writes; IMMEDIATE takes the write lock when a transaction begins, so that
    it waits (up to ``timeout`` seconds) instead of failing half-way with "database is locked".
    """
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / name,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        },
    }


# The event log has a database of its own: what it holds must survive the rollback of the shop's transaction.
DATABASES = {"default": sqlite("shop.sqlite3"), "log": sqlite("log.sqlite3")}
DATABASE_ROUTERS = ["example_project.shop.routers.LogRouter"]


def next_database(url: str) -> str:
    """Give the Redis URL of the database after the one that ``url`` names."""
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0) + 1
    return parts._replace(path=f"/{number}").geturl()


CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": next_database(REDIS_URL),
        "KEY_PREFIX": NAMESPACE,
    }
}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or REDIS_URL
CELERY_RESULT_BACKEND = REDIS_URL
CELERY_RESULT_EXPIRES = 3600
CELERY_TASK_DEFAULT_QUEUE = NAMESPACE
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE = {
    "archive old orders every night": {
        "task": "command.example_project.shop.archive_orders",
        "schedule": crontab(hour="3", minute="0"),
    }
}

# The management command becomes the task "command.example_project.shop.archive_orders".
DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS = {"archive_orders": {"unique": True}}

# The page asks for news every second: only requests that went wrong are worth a line.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django.server": {"level": "ERROR"}, "django.request": {"level": "ERROR"}},
}
