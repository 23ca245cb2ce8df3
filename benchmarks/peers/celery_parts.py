"""What every peer that is a task class of Celery has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Servers


def configure(app: Any, servers: Servers) -> Any:
    """Let an app send to the peer's broker, and keep no results."""
    app.conf.update(
        broker_url=servers.broker,
        task_ignore_result=True,
        timezone="UTC",
        worker_hijack_root_logger=False,
    )
    return app


def django(servers: Servers, *apps: str, cache: str = "django_redis.cache.RedisCache", **more: Any) -> None:
    """Make this process a Django project with a database in memory and its cache in the store."""
    import django as package
    from django.conf import settings

    settings.configure(
        CACHES={"default": {"BACKEND": cache, "LOCATION": servers.store}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=list(apps),
        SECRET_KEY="only for benchmarks",  # noqa: S106 - protects nothing
        USE_TZ=True,
        **more,
    )
    package.setup()


def in_transaction(call: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return the call inside of a transaction of its own, whose commit is part of it."""
    from django.db import transaction

    def committed(value: Any) -> None:
        with transaction.atomic():
            call(value)

    return committed


def in_one_transaction(call: Callable[[Any], Any]) -> Callable[[list[Any]], None]:
    """Return many calls inside of one transaction."""
    from django.db import transaction

    def committed(values: list[Any]) -> None:
        with transaction.atomic():
            for value in values:
                call(value)

    return committed


def body(number: int) -> None:
    """Do nothing: the body of every task here."""
