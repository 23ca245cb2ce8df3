"""Messages that go out together: what kombu's ``Producer.batch()`` collects, carried out once.

kombu (from 5.7 on) collects the commands of a batch in a pipeline of Redis. When the connection breaks meanwhile, nobody
knows which of them were carried out: so kombu repeats none, whatever the retry policy of the message says, and does not
batch at all where the connection is told to repeat commands by itself. Here a batch is one script that leaves a mark.
All of its commands are carried out, or none; sent once more, it finds its mark and does nothing. So it is repeated as
often as the retry policy says, and no message goes out twice or gets lost between two attempts.

Where the broker's user may not run scripts, and on other transports that can batch, it is kombu's own batch: sent once.
Everywhere else each message goes out by itself, over the one channel, with Celery's own retries.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from kombu import exceptions
from kombu.utils.functional import retry_over_time

from django_celery_extensions import diversion
from django_celery_extensions.publishing import Collecting
from django_celery_extensions.stores.redis_client import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: kombu has it from 5.7 on, where it has batches.
BatchPublishError: type[Exception] = getattr(exceptions, "BatchPublishError", exceptions.OperationalError)

_PUBLISH = Script("publish")
#: Seconds that a mark is kept: a batch that arrives later than that, after another attempt at it, is carried out again.
MARK_SECONDS = 600
#: Arguments of one command in a script: Lua can hand over some 8,000.
_MOST_ARGUMENTS = 1000
#: What a retry policy says to :func:`kombu.utils.functional.retry_over_time`.
_POLICY = ("max_retries", "interval_start", "interval_step", "interval_max")


class Batch:
    """Messages for one connection; given to :func:`open_batch`'s caller, who sends through its ``producer``."""

    #: Messages wait for :meth:`flush`; else each has gone out when it was sent.
    deferred = False
    #: Bytes that wait.
    size = 0
    #: Nobody knows whether what waited has gone out.
    uncertain = False

    def __init__(self, producer: Any) -> None:
        self.producer = producer

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a message that goes this way."""
        options = {**given, "producer": self.producer}
        options.pop("connection", None)
        options.pop("publisher", None)
        return options

    def flush(self) -> None:
        """Send what waits; sets ``uncertain`` where an error leaves open whether it was sent."""


@contextmanager
def open_batch(app: Any, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the batch for messages with these options: ``producer``, ``connection``, ``retry``, ``retry_policy``."""
    if diversion.take is not None:
        yield _Diverted(None)
        return
    producer = options.get("producer") or options.get("publisher")
    if options.get("connection"):
        producer = app.amqp.Producer(options["connection"], auto_declare=False)
    retry = options.get("retry")
    retry = app.conf.task_publish_retry if retry is None else retry
    policy = {**app.conf.task_publish_retry_policy, **(options.get("retry_policy") or {})} if retry else None
    with app.producer_or_acquire(producer) as found:
        if not _can_batch(found):
            yield Batch(found)
            return
        # A batch keeps to its channel: the connection is made before it begins.
        found.connection.ensure_connection(**_retrying(policy) if policy else {"max_retries": 0})
        marked = _is_redis(found.channel)
        if not marked and not found.supports_batch_publish:
            yield Batch(found)
            return
        with found.batch(max_size=2**31) as kombus:
            if marked and kombus.is_outermost:
                kombus.state.session = session = _Session(found.channel, policy)
                yield _Marked(found, session)
            else:
                yield _Kombus(found, kombus)


def _can_batch(producer: Any) -> bool:
    if not hasattr(producer, "batch"):  # kombu before 5.7
        return False
    transport = getattr(producer.connection, "transport", None)
    return bool(getattr(getattr(transport, "implements", None), "batch_publish", False))


def _retrying(policy: Mapping[str, Any]) -> dict[str, Any]:
    return {name: policy[name] for name in _POLICY if name in policy}


def _is_redis(channel: Any) -> bool:
    if not type(channel).__module__.startswith("kombu.transport.redis"):
        return False
    from kombu.transport.redis import Channel, SentinelChannel  # noqa: PLC0415 - only who has redis-py has it

    return type(channel) in (Channel, SentinelChannel)


class _Diverted(Batch):
    """Messages of a test, which go to no broker."""

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(given)


class _Deferred(Batch):
    deferred = True

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        # A retry of one message would change the channel under the batch.
        options = super().options(given)
        options["retry"] = False
        return options


class _Kombus(_Deferred):
    """A batch that kombu carries out."""

    def __init__(self, producer: Any, kombus: Any) -> None:
        super().__init__(producer)
        self._kombus = kombus

    def flush(self) -> None:
        try:
            self._kombus.flush()
        except BatchPublishError:
            self.uncertain = True
            raise


class _Marked(_Deferred):
    """A batch that is carried out once."""

    def __init__(self, producer: Any, session: _Session) -> None:
        super().__init__(Collecting(producer, session.push))
        self._session = session

    @property
    def size(self) -> int:  # type: ignore[override] # counted where the commands are
        return self._session.size

    @property
    def uncertain(self) -> bool:  # type: ignore[override] # likewise
        return self._session.uncertain

    def flush(self) -> None:
        with self.producer.connection._reraise_as_library_errors():  # noqa: SLF001 - as Celery does
            self._session.flush()


class _Session:
    """What kombu's batch collects into: it hands each message to :meth:`publish`, and the channel calls :meth:`add`."""

    def __init__(self, channel: Any, policy: Mapping[str, Any] | None) -> None:
        self.channel = channel
        self.size = 0
        self.uncertain = False
        self._policy = policy
        self._commands: list[list[Any]] = []

    def publish(self, message: Any, **options: Any) -> Any:
        """Take one message."""
        return self.channel.basic_publish(message, _publish_batch=self, **options)

    def push(self, key: str, text: str) -> None:
        """Take the text of one message to the list of a queue."""
        self.add("lpush", key, text)

    def add(self, name: str, key: str, *arguments: Any) -> None:
        """Take one command."""
        last = self._commands[-1] if self._commands else None
        for argument in arguments:
            if isinstance(argument, (str, bytes)):
                self.size += len(argument)
        key = f"{self.channel.global_keyprefix}{key}"
        if name == "lpush" and last and last[:2] == [name, key] and len(last) < _MOST_ARGUMENTS:
            last += arguments
        else:
            self._commands.append([name, key, *arguments])

    def flush(self) -> None:
        """Carry out what was collected."""
        commands, self._commands, self.size = self._commands, [], 0
        if not commands:
            return
        sender = _Sender.of(self.channel)
        sender.number += 1
        attempt = _Attempt(self, sender, commands)
        if self._policy is None:
            attempt()
            return
        errors = self.channel.connection.client.recoverable_connection_errors
        retry_over_time(attempt, errors, **_retrying(self._policy))

    def discard(self) -> None:
        """Forget what was collected."""
        self._commands, self.size = [], 0

    def close(self) -> None:
        """Kept for kombu: there is nothing to close."""


class _Attempt:
    """Carries out the commands of one batch; may be called again."""

    def __init__(self, session: _Session, sender: _Sender, commands: list[list[Any]]) -> None:
        self._session = session
        self._sender = sender
        self._commands = commands

    def __call__(self) -> None:
        import redis  # noqa: PLC0415 - only who has it comes here

        # Connected first: what fails here has sent nothing.
        client = redis.Redis(connection_pool=self._session.channel.pool, single_connection_client=True)
        before = self._session.uncertain
        try:
            self._session.uncertain = True
            if self._sender.may_run_scripts:
                self._run_script(client, again=before)
            else:
                self._run_pipeline(client)
            self._session.uncertain = False
        except redis.exceptions.ResponseError as exc:
            if self._sender.may_run_scripts and not before and _is_forbidden(exc):
                self._sender.may_run_scripts = False
                self._run_pipeline(client)
                self._session.uncertain = False
                return
            # Refused, and nothing done; an attempt before this one may have come through.
            self._session.uncertain = before or str(exc).startswith("PARTIAL")
            raise
        finally:
            client.close()

    def _run_script(self, client: Any, *, again: bool) -> None:
        arguments: list[Any] = [self._sender.number, MARK_SECONDS]
        for name, *rest in self._commands:
            arguments += (name, len(rest), *rest)
        carried_out = _PUBLISH.run(client, [self._sender.mark], arguments)
        if not carried_out and not again:
            msg = f"the broker knows batch {self._sender.number} of {self._sender.mark} already"
            raise BatchPublishError(msg)

    def _run_pipeline(self, client: Any) -> None:
        pipe = client.pipeline(transaction=False)
        for command in self._commands:
            pipe.execute_command(*command)
        try:
            pipe.execute()
        except Exception as exc:  # not to be repeated
            msg = "the batch failed; it is not known which of its messages were sent"
            raise BatchPublishError(msg) from exc


def _is_forbidden(exc: Exception) -> bool:
    return type(exc).__name__ == "NoPermissionError" or "unknown command" in str(exc)


class _Sender:
    """Who sends through a channel, and how many batches so far: an attempt that comes late has a lower number."""

    _all: ClassVar[WeakKeyDictionary[Any, _Sender]] = WeakKeyDictionary()

    def __init__(self, channel: Any) -> None:
        self.pid = os.getpid()
        self.mark = f"{channel.global_keyprefix}django_celery_extensions.sent.{uuid4()}"
        self.number = 0
        self.may_run_scripts = True

    @classmethod
    def of(cls, channel: Any) -> _Sender:
        """Return the sender of a channel, in this process."""
        sender = cls._all.get(channel)
        if sender is None or sender.pid != os.getpid():
            sender = cls._all[channel] = cls(channel)
        return sender
