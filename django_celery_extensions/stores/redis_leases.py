"""Leases on Redis: one script, one round trip, to take and to give back.

The holders of a name are a sorted set by the end of each one's lease, so that a dead holder's slot is free when its
own lease ends, whatever its neighbours do. Who waits is queued in another one and blocks on a list of its own, where
whoever gives back rings for those who are next; they then ask again, so that what they get counts from their own
asking. Fences are the last one + 1, or the server's clock in microseconds where that is more: they grow also on a
server that lost its data. All keys of a name carry the same hash tag.
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
    flag,
    is_client_error,
    ms,
    renewal,
    text,
    translated_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TAKE, _END, _RENEW, _HOLDERS = map(Script, ("lease_take", "lease_end", "lease_renew", "lease_holders"))
#: Ends of the keys of a name, the last one with an owner token after it.
_PARTS = (":holders", ":about", ":queue", ":alive", ":bell:")
#: Seconds that a wake-up waits for somebody who is not listening right now.
_BELL = 10.0


class RedisLeaseStore(RedisStore, LeaseStore):
    """Leases in the Redis behind a Django cache."""

    counts = True

    def take(self, ask: LeaseAsk) -> Grant:
        """See :meth:`LeaseStore.take`."""
        args = (ask.token, ms(ask.lasts), ask.most, ask.owner, ms(PATIENCE if ask.waits else None))
        with translated_errors():
            verdict, number = map(text, _TAKE(self._client, _keys(ask.name, self.key)[:4], args))
        if verdict == "most":
            raise HolderLimitConflict(ask.name, ask.most, int(number))
        if verdict == "held":
            return Grant(holding=None, again_in=min(POLL, int(number) / 1000) if number else POLL)
        holding = LeaseHolding(name=ask.name, token=ask.token, fence=int(number), most=ask.most)
        return Grant(holding=holding, lasts=ask.lasts)

    def wait(self, ask: LeaseAsk, at_most: float) -> None:
        """See :meth:`LeaseStore.wait`."""
        try:
            self._client.blpop(
                [_keys(ask.name, self.key)[-1] + ask.token], timeout=max(0.001, self._bounded(at_most))
            )
        except Exception as exc:
            # The connection's own timeout was shorter: asking again will tell whether the store is there.
            if not (is_client_error(exc) and "Timeout" in type(exc).__name__):
                with translated_errors():
                    raise

    def leave(self, ask: LeaseAsk) -> None:
        """See :meth:`LeaseStore.leave`."""
        self._end(ask.name, ask.token, queued=True)

    def give_back(self, holding: LeaseHolding) -> bool:
        """See :meth:`LeaseStore.give_back`."""
        return self._end(holding.name, holding.token)

    def evict(self, holder: Holder) -> bool:
        """See :meth:`LeaseStore.evict`."""
        return self._end(holder.name, holder.token)

    def holders(self, name: str) -> Sequence[Holder]:
        """See :meth:`LeaseStore.holders`."""
        with translated_errors():
            described = _HOLDERS(self._client, _keys(name, self.key)[:2], ())
        return sorted(
            (_holder(name, *map(text, words)) for words in described), key=lambda holder: holder.fence
        )

    def _end(self, name: str, token: str, *, queued: bool = False) -> bool:
        with translated_errors():
            return bool(_END(self._client, _keys(name, self.key), (token, ms(_BELL), flag(queued))))

    def _bounded(self, at_most: float) -> float:
        # A client gives up an answer that takes longer than its socket_timeout.
        pool = getattr(self._client, "connection_pool", None)
        socket_timeout = None if pool is None else pool.connection_kwargs.get("socket_timeout")
        return at_most if socket_timeout is None else min(at_most, socket_timeout / 2)


def _holder(name: str, token: str, ms_left: str, words: str) -> Holder:
    fence, since, owner = words.split(" ", 2)
    return Holder(
        name=name,
        owner=owner,
        token=token,
        fence=int(fence),
        since=int(since) / 1e6,
        expires_in=int(ms_left) / 1000,
    )


def _keys(name: str, make_key: Callable[[str], str]) -> list[str]:
    start = make_key(keys.lease_key(name))
    return [start + part for part in _PARTS]


@renewal.register(LeaseHolding)
def _renewal_of_lease(
    holding: LeaseHolding, make_key: Callable[[str], str], lasts: float
) -> tuple[Script, Sequence[str], Sequence[Any]]:
    return _RENEW, _keys(holding.name, make_key)[:2], [holding.token, ms(lasts)]
