"""celery-heimdall as it comes: a duplicate waits a second for its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer, imported
from .celery_parts import CELERY, IMPORTS, body, make_app, plain_calls, unique_calls

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="celery_heimdall",
    title="celery-heimdall {celery-heimdall}",
    requirements=(*CELERY, "celery-heimdall==1.0.1"),
    packages=("celery-heimdall", "celery", "kombu", "redis"),
    groups=("enqueue", "package"),
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what it can do."""
    return calls(servers) | {"package.import": imported(IMPORTS, "import celery_heimdall")}


def calls(servers: Servers, **heimdall: object) -> dict[str, Measure]:
    """Return the measures of calls, with settings of its own."""
    from celery_heimdall import HeimdallTask

    app = make_app(servers)
    plain = app.task(name="plain", base=HeimdallTask)(body)
    unique = app.task(name="unique", base=HeimdallTask, heimdall={"unique": True, **heimdall})(body)
    return {**plain_calls(plain), **unique_calls(unique)}
