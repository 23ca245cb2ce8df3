"""Leases on Redis: one script, one round trip, to take and to give back.

One hash tells of a name: its last fence, and who holds it, until when. Several holders are a sorted set by the end of
each one's lease, so that a dead holder's slot is free when its own lease ends, whatever its neighbours do. Who waits is
queued in another one and blocks on a list of its own, where whoever gives back rings for those who are next; they then
ask again, so that what they get counts from their own asking. Fences are the last one + 1, or the server's clock in
microseconds where that is more: they grow also on a server that lost its data.

The keys of a name begin with that of its hash, and carry the same hash tag. Only the hash is given to the scripts: a
lock that nobody waits for needs no other, and each key that is sent costs as much as a step of a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_celery_extensions import keys
from django_celery_extensions.exceptions import HolderLimitConflict
from django_celery_extensions.stores.leases import (
    PATIENCE,
    POLL,
    Grant,
    Holder,
    LeaseAsk,
    LeaseHolding,
    LeaseStore,
)
from django_celery_extensions.stores.redis_client import (
    RedisStore,
    Script,
    is_client_error,
    ms,
    renewal,
    text,
    translated_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TAKE, _END, _RENEW, _HOLDERS = map(Script, ("lease_take", "lease_end", "lease_renew", "lease_holders"))
#: Milliseconds that a place in the queue is kept, as the script takes it.
_PATIENCE = ms(PATIENCE)


class RedisLeaseStore(RedisStore, LeaseStore):
    """Leases in the Redis behind a Django cache."""

    counts = True

    def take(self, ask: LeaseAsk) -> Grant:
        """See :meth:`LeaseStore.take`."""
        args: list[object] = [ask.token, round(ask.lasts * 1000) or 1, ask.owner]
        if ask.waits or ask.most > 1:
            args.append(_PATIENCE if ask.waits else "")
        if ask.most > 1:
            args.append(ask.most)
        key = self._about(ask.name)
        answer = _TAKE(self._client, (key,), args)
        if type(answer) is not int:
            raise HolderLimitConflict(ask.name, ask.most, int(answer[0]))
        if answer <= 0:
            return Grant(holding=None, again_in=min(POLL, -answer / 1000) if answer else POLL)
        holding = LeaseHolding(name=ask.name, token=ask.token, fence=answer, most=ask.most, key=key)
        return Grant(holding=holding, lasts=ask.lasts)

    def wait(self, ask: LeaseAsk, at_most: float) -> None:
        """See :meth:`LeaseStore.wait`."""
        try:
            self._client.blpop(
                [f"{self._about(ask.name)}:bell:{ask.token}"], timeout=max(0.001, self._bounded(at_most))
            )
        except Exception as exc:
            # The connection's own timeout was shorter: asking again will tell whether the store is there.
            if not (is_client_error(exc) and "Timeout" in type(exc).__name__):
                with translated_errors():
                    raise

    def leave(self, ask: LeaseAsk) -> None:
        """See :meth:`LeaseStore.leave`."""
        _END(self._client, (self._about(ask.name),), (ask.token, "1"))

    def give_back(self, holding: LeaseHolding) -> bool:
        """See :meth:`LeaseStore.give_back`."""
        return bool(_END(self._client, (holding.key or self._about(holding.name),), (holding.token,)))

    def evict(self, holder: Holder) -> bool:
        """See :meth:`LeaseStore.evict`."""
        return bool(_END(self._client, (self._about(holder.name),), (holder.token,)))

    def holders(self, name: str) -> Sequence[Holder]:
        """See :meth:`LeaseStore.holders`."""
        described = _HOLDERS(self._client, (self._about(name),), ())
        holders = (_holder(name, text(token), left, text(words)) for token, left, words in described)
        return sorted(holders, key=lambda holder: holder.fence)

    def _about(self, name: str) -> str:
        return self.key(keys.lease_key(name))

    def _bounded(self, at_most: float) -> float:
        # A client gives up an answer that takes longer than its socket_timeout.
        pool = getattr(self._client, "connection_pool", None)
        socket_timeout = None if pool is None else pool.connection_kwargs.get("socket_timeout")
        return at_most if socket_timeout is None else min(at_most, socket_timeout / 2)


def _holder(name: str, token: str, ms_left: int, words: str) -> Holder:
    fence, sec, usec, owner = words.split(" ", 3)
    return Holder(
        name=name,
        owner=owner,
        token=token,
        fence=int(fence),
        since=int(sec) + int(usec) / 1e6,
        expires_in=ms_left / 1000,
    )


@renewal.register(LeaseHolding)
def _renewal_of_lease(
    holding: LeaseHolding, make_key: Callable[[str], str], lasts: float
) -> tuple[Script, Sequence[str], Sequence[Any]]:
    key = holding.key or make_key(keys.lease_key(holding.name))
    return _RENEW, (key,), (holding.token, ms(lasts))
