"""A resource that compares fences: counters in a Redis of their own, which nobody harms.

Whoever increments reads, works a little, and writes what it read + 1. What the resource accepted it keeps in a log.
A register that is given no fence accepts everything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import redis

from tests.chaos.history import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Environment variable with the URL of the Redis.
URL = "LOCK_CHAOS_REGISTER"
#: Label of the register that is written to without any lock.
BARE = "no lock"

_CHECK = """
local seen = tonumber(redis.call('HGET', KEYS[1], 'fence') or 0)
if ARGV[1] ~= '' then
  if tonumber(ARGV[1]) < seen then return -1 end
  redis.call('HSET', KEYS[1], 'fence', ARGV[1])
end
"""
# KEYS: register; ARGV: fence. A read counts as seen: what it returns is what its holder will build on.
_READ = _CHECK + "return tonumber(redis.call('HGET', KEYS[1], 'value') or 0)"
# KEYS: register, its log; ARGV: fence, value, call
_WRITE = (
    _CHECK
    + """
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return 1
"""
)

_clients: dict[str, Any] = {}


def _client() -> Any:
    url = os.environ[URL]
    if url not in _clients:  # a forked child connects anew by itself
        _clients[url] = redis.Redis.from_url(url, decode_responses=True)
    return _clients[url]


def increment(label: str, call: str, fence: int | None, work: Callable[[], None]) -> bool:
    """Read, work, write; returns whether the resource accepted both."""
    client, shown = _client(), "" if fence is None else str(fence)
    value = client.eval(_READ, 1, label, shown)
    accepted = value >= 0
    if accepted:
        work()
        value += 1
        accepted = client.eval(_WRITE, 2, label, f"{label} log", shown, value, call) == 1
    if accepted:
        note("wrote", register=label, call=call, fence=fence, value=value)
    else:
        note("refused", register=label, call=call, fence=fence)
    return accepted


def note_all(labels: Iterable[str]) -> None:
    """Write down how each register ended."""
    client = _client()
    for label in labels:
        value = int(client.hget(label, "value") or 0)
        log = [line.split(" ", 2) for line in client.lrange(f"{label} log", 0, -1)]
        note(
            "register",
            register=label,
            value=value,
            log=[[int(fence or 0), int(written), call] for fence, written, call in log],
        )
