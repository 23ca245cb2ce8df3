"""Our two scripts of a lock and nothing around them: what the rest of `locks.lock` is compared to."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .base import LASTS, each

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Measure, Servers


def scripts(servers: Servers) -> dict[str, Measure]:
    """Return the measure of taking and giving back by hand."""

    @cache
    def pair() -> Callable[[Any], None]:
        # Looked up when it is asked for: scripts that have changed are a gap of this measure alone.
        from redis import Redis

        from django_celery_extensions.stores import redis_leases as ours

        client = Redis.from_url(servers.store)
        keys = ours._keys("lock:raw", str)
        take, end = (client.script_load(script.text) for script in (ours._TAKE, ours._END))
        took: Any = partial(client.evalsha, take, 4, *keys[:4])
        ended: Any = partial(client.evalsha, end, 5, *keys)

        def call(_: Any) -> None:
            token = uuid4().hex
            took(token, LASTS * 1000, 1, "host:1", "")
            ended(token, 10000, "")

        return call

    return {"locks.scripts": lambda calls: each(pair(), range(calls))}
