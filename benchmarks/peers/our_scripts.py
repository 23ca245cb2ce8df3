"""Our two scripts of a lock and nothing around them: what the rest of `locks.lock` is compared to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

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
        take, end = (client.script_load(script.text) for script in (ours._TAKE, ours._END))
        key, token = ":1:dce:{lock:raw}", "0123456789abcdef" * 2

        def call(_: Any) -> None:
            client.evalsha(take, 1, key, token, LASTS * 1000, "host:1")
            client.evalsha(end, 1, key, token)

        return call

    return {"locks.scripts": lambda calls: each(pair(), range(calls))}
