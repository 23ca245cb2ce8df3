"""One connection with ZooKeeper: kazoo's, bounded while it is made, and with what it knows made known.

- The session timeout that the servers agreed to is known.
- Pings go out each tenth of the session timeout: whoever asks a follower is known to be alive there, and the leader
  learns of it with the follower's next answer. That bounds how much less than a session timeout is left when the two
  lose each other (see ``ZooKeeperLeaseStore.margin``).
- What was sent when is known, and so how lately the leader must have heard of the session.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import Any

from kazoo.exceptions import AuthFailedError
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Connect

#: Signs of life that are remembered, of one session timeout.
_SIGNS = 100
#: Part of the session timeout between two pings, and seconds that it should not fall short of.
_PING, _SHORTEST_PING = 0.1, 0.25
#: Parts of the session timeout: a sign of life as old as the first has reached the leader, as a follower passes them
#: on each half tick, and a session lasts two ticks at least; one that is older than the second is too old to count on.
_HEARD, _STALE = 0.25, 0.4


class Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo carries no types
    """kazoo's connection: bounded while it is made, and with the outcome known."""

    def __init__(self, plain: ConnectionHandler, patience: float) -> None:
        super().__init__(
            plain.client, plain.retry_sleeper, logger=plain.logger, sasl_options=plain.sasl_options
        )
        self.patience = patience
        #: Session timeout that the servers agreed to, in seconds.
        self.lasts = 0.0
        #: It has given up for good, and why.
        self.ended = False
        self.failure: Exception | None = None
        #: Moments (monotonic) of the last signs of life that were sent on this connection.
        self.signs: deque[float] = deque(maxlen=_SIGNS)
        #: Moment since which the leader has surely heard of the session when this connection was made.
        self.made_at = -inf

    def zk_loop(self) -> None:
        """Run kazoo's loop, and keep what ended it."""
        try:
            super().zk_loop()
        except Exception as exc:  # noqa: BLE001 - kazoo has logged it
            self.failure = exc
        finally:
            self.ended = True

    def _connect(self, host: str, hostip: str, port: int) -> tuple[float, float]:
        try:
            _, connect_timeout = super()._connect(host, hostip, port)
        except AuthFailedError as exc:
            self.failure = exc
            raise
        # kazoo pings when half of its read timeout has passed.
        ping = max(self.lasts * _PING, min(_SHORTEST_PING, self.lasts / 3))
        return ping * 2 * 1000, connect_timeout

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        asked_at = monotonic()
        answer = super()._invoke(min(timeout, self.patience), request, xid)
        if isinstance(request, Connect):
            self.lasts = answer[0].time_out / 1000
            self.signs.clear()  # of another connection: they may not have arrived
            self.made_at = asked_at  # the leader itself has said so
        return answer

    def _submit(self, request: Any, timeout: float, xid: int | None = None) -> None:
        now = monotonic()
        super()._submit(request, timeout, xid)
        # One in so much time is enough, so that many requests do not push the older ones out.
        if not self.signs or now >= self.signs[-1] + self.lasts / _SIGNS:
            self.signs.append(now)

    def heard_in(self, now: float) -> float:
        """Seconds until the leader must have heard of the session lately; 0 where it has."""
        signs = self.signs.copy()  # kazoo's thread adds to it
        latest = max([self.made_at, *(sign for sign in signs if sign <= now - _HEARD * self.lasts)])
        if latest >= now - _STALE * self.lasts:
            return 0.0
        # After a pause of this process, say: what it has sent since then is yet to reach the leader.
        return min((sign for sign in signs if sign > latest), default=now) + _HEARD * self.lasts - now
