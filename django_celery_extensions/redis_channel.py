"""kombu's Redis channel, as far as a message to one queue needs it: pushed with a client that is kept.

kombu makes a client for each message it sends. The client that it made once does as well, for as long as the channel
has the same pool of connections. Nothing of Redis is imported for who has another broker.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django_celery_extensions.stores.redis_command import command

if TYPE_CHECKING:
    from types import ModuleType

_CLIENT = "_dce_client"
_DECLARED = "_dce_declared"
#: Methods of the channel that are not called for each message.
_CODE = (
    "basic_publish _put prepare_message _inplace_augment_message _next_delivery_tag _get_message_priority _q_for_pri"
).split()


def serves(connection: Any) -> bool:
    """Tell whether a connection is one of kombu's own Redis transport; it need not be connected."""
    transport = connection.get_transport_cls()
    return (transport.__module__, transport.__qualname__) == ("kombu.transport.redis", "Transport")


@cache
def modules() -> tuple[ModuleType, ...]:
    """Return the modules that the channel is written in."""
    from kombu.transport import redis  # noqa: PLC0415 - only for who has it as a broker
    from kombu.transport.virtual import base  # noqa: PLC0415 - likewise

    return redis, base


def code() -> list[Any]:
    """Return the functions of the channel that are not called."""
    channel = modules()[0].Channel
    return [getattr(channel, name) for name in _CODE]


def declared(channel: Any, queue: str) -> bool:
    """Note that a queue was declared through this channel; returns False for a channel of another kind."""
    if type(channel) is not modules()[0].Channel:
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


def push(channel: Any, key: str, text: str) -> None:
    """Push the text of a message to the list of a queue that does not expire, as ``channel.basic_publish`` does."""
    command(_client(channel), "LPUSH", key, text)


def _client(channel: Any) -> Any:
    client = vars(channel).get(_CLIENT)
    if client is None or client.connection_pool is not channel.pool:
        with channel.conn_or_acquire() as client:
            vars(channel)[_CLIENT] = client
    return client
