"""Claims and ignore windows on Redis: one Lua script, one round trip, for each step.

The client is the cache's own (django-redis, Django's RedisCache, django-valkey), and so are its pool,
KEY_PREFIX, KEY_FUNCTION and VERSION. Claims are Redis hashes, windows are strings.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django_celery_extensions import keys
from django_celery_extensions.config import settings
from django_celery_extensions.stores.base import Answer, Ask, ClaimStore, Holding, Unsent, Verdict
from django_celery_extensions.stores.redis_client import (
    RedisStore,
    Script,
    flag,
    is_one_server,
    ms,
    renewal,
    text,
    translated_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.core.cache import BaseCache

_START, _SETTLE, _WITHDRAW, _RENEW = map(Script, ("start", "settle", "withdraw", "renew"))
_ADMIT, _REQUEUE = Script("given_back", "admit"), Script("given_back", "requeue")


class RedisClaimStore(RedisStore, ClaimStore):
    """Claims and windows in the Redis behind a Django cache."""

    atomic = True

    def __init__(self, cache: BaseCache) -> None:
        super().__init__(cache)
        self._together = is_one_server(self._client)

    def admit(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.admit`."""
        return _answer(
            _ADMIT(
                self._client,
                self._keys(ask.name),
                (*_terms(ask.claim, ask.window, ask.replace, ask.proof), ask.task_id),
            )
        )

    def admit_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """See :meth:`ClaimStore.admit_many`: one script where all keys are on one server, else one pipeline."""
        with translated_errors():
            if self._together:
                try:
                    return self._admit(asks, len(asks))
                except Exception as exc:
                    if type(exc).__name__ != "ClusterCrossSlotError" and "CROSSSLOT" not in str(exc):
                        raise
                    self._together = False  # a cluster that looks like one server
            return self._admit(asks, 1)

    def _admit(self, asks: Sequence[Ask], together: int) -> list[Answer]:
        calls, counts, prefix = [], [], settings.IGNORE_TASK_KEY_PREFIX
        for alike, group in groupby(asks, attrgetter("claim", "window", "replace", "proof")):
            terms, names = _terms(*alike), [(ask.name, ask.task_id) for ask in group]
            for some in (names[at : at + together] for at in range(0, len(names), together)):
                keys = [key for name, _ in some for key in self._keys(name, prefix)]
                calls.append((keys, (*terms, *[task_id for _, task_id in some])))
                counts.append(len(some))
        replies = zip(_ADMIT.many(self._client, calls), counts, strict=True)
        return [answer for reply, count in replies for answer in _answers(reply, count)]

    def start(self, ask: Ask) -> Answer:
        """See :meth:`ClaimStore.start`."""
        flags = (flag(ask.window), flag(ask.until_start), flag(ask.patient))
        args = (ask.task_id, ask.token, ms(ask.claim), *flags, ask.follows)
        return _answer(_START(self._client, self._keys(ask.name), args))

    def settle(self, holding: Holding, window: float | None = None, *, lost: bool = False) -> bool:
        """See :meth:`ClaimStore.settle`."""
        claim, opened, _ = self._keys(holding.name)
        args = (holding.task_id, holding.token, ms(window), flag(lost))
        return bool(_SETTLE(self._client, (claim, opened), args))

    def withdraw_many(self, calls: Sequence[Unsent]) -> list[bool]:
        """See :meth:`ClaimStore.withdraw_many`; all in one pipeline."""
        asked = []
        for call in calls:
            claim, _, replaced = self._keys(call.name)
            asked.append(((claim, replaced), (call.task_id, call.replaced, ms(call.stale))))
        with translated_errors():
            return [bool(mine) for mine in _WITHDRAW.many(self._client, asked)]

    def requeue(self, holding: Holding, lasts: float) -> bool:
        """See :meth:`ClaimStore.requeue`."""
        key, args = self.key(keys.claim_key(holding.name)), (holding.task_id, holding.token, ms(lasts))
        return bool(_REQUEUE(self._client, [key], args))

    def open_window(self, name: str, task_id: str, window: float) -> None:
        """See :meth:`ClaimStore.open_window`."""
        with translated_errors():
            key = self.key(keys.window_key(settings.IGNORE_TASK_KEY_PREFIX, name))
            self._client.set(key, task_id, px=ms(window))

    def holding(self, name: str) -> Holding | None:
        """See :meth:`ClaimStore.holding`."""
        with translated_errors():
            task_id, token, fence = self._client.hmget(
                self.key(keys.claim_key(name)), "task", "token", "fence"
            )
        if task_id is None:
            return None
        return Holding(name=name, task_id=text(task_id), token=text(token), fence=int(fence))

    def forget(self, name: str) -> None:
        """See :meth:`ClaimStore.forget`."""
        with translated_errors():
            self._client.delete(*self._keys(name))

    def _keys(self, name: str, prefix: str | None = None) -> tuple[str, str, str]:
        if prefix is None:
            prefix = settings.IGNORE_TASK_KEY_PREFIX
        claim, window, replaced = keys.call_keys(prefix, name)
        start = self._start
        if start is None:
            return self.key(claim), self.key(window), self.key(replaced)
        return start + claim, start + window, start + replaced


@renewal.register(Holding)
def _renewal_of_claim(
    holding: Holding, make_key: Callable[[str], str], lasts: float
) -> tuple[Script, Sequence[str], Sequence[object]]:
    return _RENEW, [make_key(keys.claim_key(holding.name))], [holding.task_id, holding.token, ms(lasts)]


#: Looked up in a third of the time that the enumeration itself takes.
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


@lru_cache(maxsize=100)
def _terms(claim: float | None, window: bool, replace: bool, proof: str) -> tuple[object, ...]:
    """Return what an ask is, beside name and task, as the script takes it: the same for most calls of a task."""
    return ms(claim), flag(window), flag(replace), proof


def _answers(reply: Any, count: int) -> list[Answer]:
    """Return what so many tasks were told by one script: most of them the same."""
    if count == 1:
        return [_answer(reply)]
    first, *others = reply
    answers = [_answer(first)] * count
    for place, other in zip(others[::2], others[1::2], strict=True):
        answers[place - 1] = _answer(other)
    return answers


def _answer(reply: bytes | str) -> Answer:
    verdict, fence, task_id = text(reply).split(" ", 2)
    return Answer(verdict=_VERDICTS[verdict], task_id=task_id, fence=int(fence))
