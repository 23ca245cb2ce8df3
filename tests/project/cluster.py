"""django-redis on a Redis Cluster: its client in place of that for one server."""

from __future__ import annotations

from typing import Any, ClassVar

from django_redis.pool import ConnectionFactory
from redis.cluster import RedisCluster


class ClusterFactory(ConnectionFactory):
    """Name it in OPTIONS: `"CONNECTION_FACTORY": "tests.project.cluster.ClusterFactory"`."""

    #: A client knows every node of its cluster and all threads may use it: one is enough for a process.
    _clients: ClassVar[dict[str, Any]] = {}

    def connect(self, url: str) -> Any:
        if url not in self._clients:
            self._clients[url] = RedisCluster.from_url(url)
        return self._clients[url]

    def disconnect(self, connection: Any) -> None:
        pass
