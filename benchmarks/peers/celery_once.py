"""celery-once: a lock for an hour, taken by the caller and given back by the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer, imported
from .celery_parts import CELERY, IMPORTS, body, make_app, unique_calls

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="celery_once",
    title="celery-once {celery-once}",
    requirements=(*CELERY, "celery-once==3.0.1"),
    packages=("celery-once", "celery", "kombu", "redis"),
    groups=("enqueue", "package"),
    note="a duplicate raises",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from celery_once import AlreadyQueued, QueueOnce

    where = {"url": servers.store, "default_timeout": 3600}
    app = make_app(servers, ONCE={"backend": "celery_once.backends.Redis", "settings": where})
    return {
        **unique_calls(app.task(name="unique", base=QueueOnce)(body), AlreadyQueued),
        "package.import": imported(IMPORTS, "import celery_once, celery_once.backends"),
    }
