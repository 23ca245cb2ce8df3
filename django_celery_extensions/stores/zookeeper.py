"""The way to leases in ZooKeeper. Importing this needs no kazoo, and connects to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.stores.zookeeper_hosts import hosts, options

if TYPE_CHECKING:
    from django_celery_extensions.stores.leases import LeaseStore


def lease_store() -> LeaseStore:
    """Return the store of leases in ZooKeeper. It connects when first used.

    Raises :class:`TaskConfigurationError` where kazoo is not installed.
    """
    try:
        from django_celery_extensions.stores.zookeeper_leases import (  # noqa: PLC0415 - needs kazoo
            ZooKeeperLeaseStore,
        )
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] != "kazoo":
            raise
        msg = (
            "locks in ZooKeeper need kazoo, which is not installed: "
            "pip install django-celery-extensions[zookeeper]"
        )
        raise TaskConfigurationError(msg) from exc
    return ZooKeeperLeaseStore()


def check() -> None:
    """Raise :class:`TaskConfigurationError` where the configuration can't work; connects to nothing."""
    lease_store()
    hosts()
    from django_celery_extensions.stores.zookeeper_client import client_options  # noqa: PLC0415 - needs kazoo

    client_options(options())
