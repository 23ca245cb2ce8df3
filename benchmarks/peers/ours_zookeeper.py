"""`locks.lock` with `LOCK_STORE = "zookeeper"`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import ours
from .base import lock_measures
from .celery_parts import django, make_app

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = replace(
    ours.PEER,
    name="ours_zookeeper",
    title="**`locks.lock`** on ZooKeeper",
    short="",
    packages=("kazoo",),
    groups=("locks",),
    venv="ours",
    zookeeper=True,
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    django(servers, "django_celery_extensions", DJANGO_CELERY_EXTENSIONS_LOCK_STORE="zookeeper")
    make_app(servers).conf.zookeeper_hosts = servers.zookeeper
    from django_celery_extensions.locks import lock

    return lock_measures(lambda: lock("benchmark", blocking=True))
