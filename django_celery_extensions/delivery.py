"""Two options of a call that Celery takes and does not look after: ``connect_timeout`` and ``mandatory``."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

#: Name of the event of an AMQP channel that tells of a message which nobody could be found for.
_RETURNED = "basic_return"


def deliver(
    app: Celery, send: Callable[..., Any], args: Any, kwargs: Any, options: dict[str, Any], *, mandatory: bool
) -> Any:
    """Send a message with these options.

    Raises kombu's ``OperationalError`` after ``connect_timeout`` seconds without a connection, and the transport's
    ``ChannelError`` for a ``mandatory`` message that no queue takes.
    """
    timeout = options.pop("connect_timeout", None)
    if app.conf.task_always_eager:
        return send(args, kwargs, **options)
    returned: Exception | None = None
    with ExitStack() as stack:
        connection = options.get("connection")
        if connection is None:
            producer = stack.enter_context(app.producer_or_acquire(options.get("producer")))
            options["producer"] = producer
            connection = producer.connection
        else:
            producer = None  # Celery makes one that uses its default channel
        if timeout is not None:
            stack.enter_context(_connecting_within(connection, timeout))
        result = send(args, kwargs, **options)
        if mandatory and connection.transport.driver_type == "amqp":
            returned = _returned(connection.default_channel if producer is None else producer.channel)
    if returned is not None:
        raise returned
    return result


@contextmanager
def _connecting_within(connection: Any, timeout: float) -> Iterator[None]:
    before = connection.connect_timeout
    connection.connect_timeout = timeout
    try:
        yield
    finally:
        connection.connect_timeout = before


def _returned(channel: Any) -> Exception | None:
    """Wait until the broker has told what became of a mandatory message; return the error if no queue took it.

    Nobody would read its answer before the next question on this channel: another call's, which would fail in place of
    this one.
    """
    errors: list[Exception] = []

    def note(exc: Exception, *_: Any) -> None:
        errors.append(exc)

    channel.events[_RETURNED].add(note)
    try:
        channel.flow(active=True)  # changes nothing, and is answered after whatever is told of the message
    finally:
        channel.events[_RETURNED].discard(note)
    return errors[0] if errors else None
