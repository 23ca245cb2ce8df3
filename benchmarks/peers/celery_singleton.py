"""celery-singleton: a lock without an end, taken by the caller and given back by the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer, imported
from .celery_parts import CELERY, IMPORTS, body, make_app, unique_calls

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="celery_singleton",
    title="celery-singleton {celery-singleton}",
    requirements=(*CELERY, "celery-singleton==0.3.1"),
    packages=("celery-singleton", "celery", "kombu", "redis"),
    groups=("enqueue", "package"),
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    from celery_singleton import Singleton

    app = make_app(servers, singleton_backend_url=servers.store)
    return {
        **unique_calls(app.task(name="unique", base=Singleton)(body)),
        "package.import": imported(IMPORTS, "import celery_singleton, celery_singleton.backends.redis"),
    }
