"""One client of ZooKeeper, and with it one session: kazoo's, whose every step is bounded in time.

What is different from a plain ``KazooClient``:

- A server that does not answer is given up after a fraction of the connect timeout, not after a whole session, so
  that the session can be carried over to another one.
- It says when the servers must have heard of it (:mod:`~django_celery_extensions.stores.zookeeper_connection`).
- Reconnecting is tried at least once a second, however long the servers were away.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import time
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    SASLException,
    SessionClosedRequireSaslError,
)
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry
from kombu.utils.compat import detect_environment

from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores.zookeeper_connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger(__name__)

#: What ``KazooClient`` takes and a project may not give: it is settled here, or would break what is promised.
_OURS = {"self", "hosts", "timeout", "handler", "client_id", "read_only", "kwargs"}
_HANDLERS = {
    "default": ("kazoo.handlers.threading", "SequentialThreadingHandler"),
    "gevent": ("kazoo.handlers.gevent", "SequentialGeventHandler"),
    "eventlet": ("kazoo.handlers.eventlet", "SequentialEventletHandler"),
}
#: Seconds that a server is waited for which has been away for longer.
_BRIEFLY = 0.1
#: Names that are remembered at once.
_REMEMBERED = 1000
#: Answers of a server that say how things are.
ANSWERS = (NoNodeError, NodeExistsError, NotEmptyError)
#: Answers of a server, or of kazoo, that say that the configuration is wrong.
_REFUSALS = (
    AuthFailedError,
    InvalidACLError,
    NoAuthError,
    SASLException,
    SessionClosedRequireSaslError,
)


class ZooKeeperClient:
    """A session with ZooKeeper, and another one after it was lost.

    ``within`` is how many seconds anything may take that waits for a server.
    """

    def __init__(self, hosts: str, options: Mapping[str, Any], *, timeout: float, within: float) -> None:
        self._hosts = hosts
        self.within = within
        arguments = client_options(options)
        patience = max(0.5, within / (hosts.count(",") + 2))  # all hosts, and time left for an answer
        handler = _handler(patience)
        retry = arguments.pop("connection_retry", {})
        if isinstance(retry, dict):
            retry = KazooRetry(
                **{
                    "max_tries": -1,
                    "delay": 0.1,
                    "max_delay": 1.0,
                    "sleep_func": handler.sleep_func,
                    **retry,
                }
            )
        try:
            self._kazoo = KazooClient(
                hosts=hosts, timeout=timeout, handler=handler, connection_retry=retry, **arguments
            )
        except Exception as exc:
            msg = f"kazoo can't be used with zookeeper_options {sorted(options)}: {exc}"
            raise TaskConfigurationError(msg) from exc
        self._connection = Connection(self._kazoo._connection, patience)  # noqa: SLF001 - no public way
        self._kazoo._connection = self._connection  # noqa: SLF001
        self._bells: dict[str, Bell] = {}
        #: Names that others held when this process last asked, and that they waited for when it last gave them back:
        #: what is tried at once for others would be tried in vain, and written down so by every server.
        self.held_by_others = Names()
        self.waited_for = Names()
        #: Moment (monotonic) since which there is no connection, None while there is one.
        self._down_since: float | None = monotonic()
        self._kazoo.add_listener(self._state_changes)
        self._live = self._kazoo.start_async()

    @property
    def session(self) -> str:
        """The session, as its nodes name it; empty while there is none. One that is suspended is still there."""
        number = None if self.ended else self._kazoo._session_id  # noqa: SLF001 - client_id is hidden by a suspension
        return "" if number is None else session_name(number)

    @property
    def lasts(self) -> float:
        """Seconds that the session outlives its last sign of life, as the servers agreed to."""
        return self._connection.lasts

    @property
    def ended(self) -> bool:
        """True once it will never connect again."""
        return self._connection.ended

    @property
    def away(self) -> bool:
        """True once there was no connection for longer than anything may take: nobody waits for it any more."""
        down_since = self._down_since
        return down_since is not None and monotonic() >= down_since + self.within

    def ask(self, *requests: Callable[[Any], Any], within: float | None = None) -> list[Any]:
        """Send requests all at once, and return the answers: results, or errors that say how a node is.

        A request takes the ``KazooClient`` and returns its asynchronous result. Raises :class:`StoreUnavailable`
        where an answer did not come in time: whether the request was, or will be, carried out is not known then.
        """
        deadline = monotonic() + (self.within if within is None else within)
        self._wait_until_connected(deadline)
        return self._answers([request(self._kazoo) for request in requests], deadline)

    def be_heard(self, until: float) -> None:
        """Wait until the leader must have heard of this session lately, so that it will not end it soon.

        A server takes a request of a session that was silent for almost its whole timeout, and the leader carries it
        out; that the session lives the leader learns a moment later, and may end it before. Raises
        :class:`StoreUnavailable` where that is not so by ``until``.
        """
        while True:
            self._wait_until_connected(until)
            now = monotonic()
            left = self._connection.heard_in(now)
            if left <= 0:
                return
            if now + left > until:
                msg = f"ZooKeeper at {self._hosts} has not heard of this process lately"
                raise StoreUnavailable(msg)
            self._kazoo.sync_async("/")  # a sign of life, where kazoo's next ping is late
            time.sleep(left)

    def send(self, request: Callable[[Any], Any]) -> None:
        """Send a request whose outcome does not matter."""
        request(self._kazoo)

    def bell(self, token: str) -> Bell:
        """Return the bell of a token, for watches: always the same one, as watches that repeat are kept once."""
        return self._bells.setdefault(token, Bell(self._kazoo.handler.event_object()))

    def turn(self, token: str) -> str | None:
        """Return the place in the queue whose turn it seems to be, as its bell rang; that is said once."""
        bell = self._bells.get(token)
        if bell is None:
            return None
        turn, bell.turn = bell.turn, None
        return turn

    def drop_bell(self, token: str) -> None:
        """Forget the bell of a token."""
        self._bells.pop(token, None)

    def close(self, *, at_exit: bool = False) -> None:
        """End the session, and so what it holds, and free what the client uses."""
        if at_exit and not self._kazoo.connected:
            return  # can't be told to anybody; it ends by itself
        try:
            self._kazoo.stop()
            self._kazoo.close()
        except Exception:
            logger.exception("the session with ZooKeeper at %s could not be closed in order", self._hosts)

    def forget(self) -> None:
        """Be the copy of a client, in a forked child: nothing is sent on its connection, which is its parent's."""
        atexit.unregister(self._kazoo.handler.stop)

    def _state_changes(self, state: Any) -> None:
        if state == KazooState.CONNECTED:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = monotonic()

    def _wait_until_connected(self, deadline: float) -> None:
        if self.away:  # it is tried in the background
            deadline = min(deadline, monotonic() + _BRIEFLY)
        while not self._live.wait(max(0.0, min(0.1, deadline - monotonic()))):
            if self.ended:
                raise self.refusal(self._connection.failure)
            if monotonic() >= deadline:
                msg = f"there is no connection to ZooKeeper at {self._hosts}"
                raise StoreUnavailable(msg)

    def _answers(self, results: Sequence[Any], deadline: float) -> list[Any]:
        answers = []
        for result in results:
            # Not get(timeout=): each handler has an error of its own for that, and gevent's is no Exception.
            result.wait(max(0.0, deadline - monotonic()))
            if not result.ready():
                msg = f"ZooKeeper at {self._hosts} did not answer in time"
                raise StoreUnavailable(msg)
            try:
                answers.append(result.get())
            except ANSWERS as exc:
                answers.append(exc)
            except Exception as exc:  # kazoo's, the system's, those of an SSL or SASL library
                raise self.refusal(exc) from exc
        return answers

    def refusal(self, exc: Exception | None) -> Exception:
        """Return the error to raise for one of kazoo's that is no answer."""
        if isinstance(exc, _REFUSALS):
            msg = (
                f"ZooKeeper at {self._hosts} can't be used with the credentials in zookeeper_options: {exc!r}"
            )
            return TaskConfigurationError(msg)
        msg = f"ZooKeeper at {self._hosts} can't be used: {exc!r}"
        return StoreUnavailable(msg)


class Names(set[str]):
    """Names that are remembered; all are forgotten when they are too many."""

    def add(self, name: str) -> None:
        """Remember a name."""
        if len(self) >= _REMEMBERED:
            self.clear()
        super().add(name)


class Bell:
    """What a watch rings, and a waiter listens to."""

    def __init__(self, event: Any) -> None:
        self._event = event
        #: The place in the queue whose turn it seems to be.
        self.turn: str | None = None

    def __call__(self, _event: Any) -> None:
        self._event.set()

    def clear(self) -> None:
        """Be silent again."""
        self._event.clear()

    def wait(self, at_most: float) -> bool:
        """Sleep until it rings, or for ``at_most`` seconds; return whether it rang."""
        self._event.wait(at_most)
        return bool(self._event.is_set())


def session_name(number: int) -> str:
    """Return the name of a session, as ZooKeeper's own tools write it."""
    return f"{number & 0xFFFF_FFFF_FFFF_FFFF:x}"


def client_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for ``KazooClient`` that a project gave.

    Raises :class:`TaskConfigurationError` for one that it does not take, or may not be given.
    """
    known = sorted(set(inspect.signature(KazooClient.__init__).parameters) - _OURS)
    unknown = sorted(set(options) - set(known))
    if unknown:
        msg = (
            f"zookeeper_options has {', '.join(map(repr, unknown))}, which can't be set there; "
            f"it may have {', '.join(known)}"
        )
        raise TaskConfigurationError(msg)
    arguments = dict(options)
    if arguments.get("sasl_options") is not None:
        if find_spec("puresasl") is None:
            msg = "zookeeper_options has 'sasl_options', which need pure-sasl: pip install pure-sasl"
            raise TaskConfigurationError(msg)
        arguments["sasl_options"] = dict(arguments["sasl_options"])  # kazoo adds to it
    return arguments


def _handler(patience: float) -> Any:
    module, name = _HANDLERS[detect_environment()]
    handler = getattr(import_module(module), name)()
    connect = handler.create_connection

    def create_connection(*args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        return connect(*args, timeout=patience if timeout is None else min(timeout, patience), **kwargs)

    handler.create_connection = create_connection
    return handler
