"""kombu's Redis channel, as far as a message to one queue needs it: pushed with a client that is kept.

kombu makes a client for each message it sends. The client that it made once does as well, for as long as the channel
has the same pool: fork-safe and as safe between threads as the channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps

from django_celery_extensions.stores.redis_command import command

try:
    from kombu.transport import redis as kombu_redis
    from kombu.transport.virtual import base as kombu_virtual
except ImportError:  # kombu without redis-py
    kombu_redis = kombu_virtual = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLIENT = "_dce_client"
_DECLARED = "_dce_declared"

#: What is done here instead, by where it is looked up.
CODE: tuple[tuple[Any, str], ...] = ()
#: Where that is written.
MODULES: tuple[Any, ...] = ()
if getattr(kombu_redis, "redis", None) is not None:
    CODE = ((kombu_redis.Channel, "basic_publish"), (kombu_redis.Channel, "_put"))
    MODULES = (kombu_redis, kombu_virtual)


def declared(channel: Any, queue: str) -> bool:
    """Note that a queue was declared through this channel; returns False for a channel of another kind."""
    if not CODE or type(channel) is not kombu_redis.Channel:
        return False
    vars(channel).setdefault(_DECLARED, set()).add(queue)
    return True


def channel_of(connection: Any, queue: str) -> Any:
    """Return the open channel of a connection through which the queue was declared, None where there is none."""
    if not connection.connected:
        return None
    channel = connection.default_channel
    return channel if is_declared(channel, queue) else None


def is_declared(channel: Any, queue: str) -> bool:
    """Tell whether a queue was declared through a channel, and does not expire."""
    found = vars(channel).get(_DECLARED)
    return found is not None and queue in found and queue not in (getattr(channel, "_expires", None) or ())


def push(channel: Any, queue: str, message: Mapping[str, Any]) -> None:
    """Do what ``channel.basic_publish(message, "", queue)`` does for a queue that does not expire."""
    key, text = pushed(channel, queue, message)
    command(_client(channel), "LPUSH", key, text)


def pushed(channel: Any, queue: str, message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key of such a queue, and what is pushed to it."""
    channel._inplace_augment_message(message, "", queue)  # noqa: SLF001 - as its own basic_publish does
    priority = channel._get_message_priority(message, reverse=False)  # noqa: SLF001
    return channel._q_for_pri(queue, priority), dumps(message)  # noqa: SLF001


def _client(channel: Any) -> Any:
    client = vars(channel).get(_CLIENT)
    if client is None or client.connection_pool is not channel.pool:
        with channel.conn_or_acquire() as client:
            vars(channel)[_CLIENT] = client
    return client
