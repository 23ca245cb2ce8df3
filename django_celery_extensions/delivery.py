"""Options of a call that Celery takes and does not look after, or not for all brokers.

``connect_timeout``, ``mandatory``, and a ``countdown`` or ``eta`` of less than a second on quorum queues.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery.utils.quorum_queues import detect_quorum_queues

from django_celery_extensions.timing import delay_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

#: RabbitMQ's delayed delivery, which Celery uses where there are quorum queues, knows whole seconds, one at least; and an
#: ETA comes nearer while it is being sent.
_SHORTEST_DELAY = 1.5
#: Name of the event of an AMQP channel that tells of a message which nobody could be found for.
_RETURNED = "basic_return"


def leave_to_worker(app: Celery, options: dict[str, Any]) -> None:
    """Let a worker wait, not the broker, where that can't wait for so short a time: Celery would raise ``ValueError``."""
    delay = delay_until(options.get("countdown"), options.get("eta"), app.now())
    if not 0 < delay < _SHORTEST_DELAY or app.conf.task_always_eager:
        return
    transport = app.producer_pool.connections.connection.transport
    if not detect_quorum_queues(app, transport.driver_type)[0]:
        return
    # An ETA that Celery does not see: it is that of the message, and of no retry.
    eta = app.now() + timedelta(seconds=delay)
    options.update(countdown=None, eta=None)
    options["headers"] = {**(options.get("headers") or {}), "eta": eta.isoformat()}


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
