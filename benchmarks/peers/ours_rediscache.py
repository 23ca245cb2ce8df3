"""The same with the cache that Django brings, `django.core.cache.backends.redis.RedisCache`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import ours

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = replace(
    ours.PEER,
    name="ours_rediscache",
    title="**`DjangoTask`**, Django's own `RedisCache`",
    short="DjangoTask, Django's RedisCache",
    groups=("enqueue",),
    venv="ours",
)


def measures(servers: Servers) -> dict[str, Measure]:
    """Return what its cache has a part in."""
    calls = ours.calls(ours.project(servers, cache="django.core.cache.backends.redis.RedisCache")[1])
    return {name: calls[name] for name in ("enqueue.free", "enqueue.duplicate", "enqueue.ignored")}
