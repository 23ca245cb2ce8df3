"""What a call asks of Redis: the commands that are sent, those that scripts run, and the waits for an answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.stage import Stage

#: What libraries ask when they connect and in the background, and what our own looking is.
_ASIDE = frozenset(
    "hello select client|setinfo client ping script|load script flushdb info monitor echo brpop blpop".split()
)


def counted(
    stage: Stage,
    what: Callable[[int], Any],
    few: int,
    more: int,
    *,
    before: Callable[[int], Any] = lambda _: None,
) -> dict[str, Any]:
    """Return what one call cost: ``sent`` and ``inside`` by the name of the command, and ``waits``.

    It is the difference between few and more of them, so that what comes once is not in it. A wait is a read of the
    server's from a client: a pipeline that fits into one packet is one. What is done ``before`` each does not count.
    """
    before(few)
    less = _look(stage, what, few)
    before(more)
    all_of_it = _look(stage, what, more)
    calls = more - few
    sent = all_of_it.sent - less.sent
    return {
        "sent": _each(sent, calls),
        "inside": _each(all_of_it.run - less.run - sent, calls),
        "waits": round(max(0, all_of_it.reads - less.reads) / calls, 2),
    }


@dataclass(frozen=True, kw_only=True)
class _Looked:
    sent: Counter[str]
    run: Counter[str]
    reads: int


def _look(stage: Stage, what: Callable[[int], Any], calls: int) -> _Looked:
    reads, before = _reads(stage), Counter(stage.server.commands())
    with stage.server.recording() as recorded:
        what(calls)
    run = Counter(stage.server.commands()) - before
    return _Looked(sent=Counter(words[0].lower() for words in recorded), run=run, reads=_reads(stage) - reads)


def _reads(stage: Stage) -> int:
    said: Any = stage.redis.info("stats")
    return int(said["total_reads_processed"])


def _each(numbers: Counter[str], calls: int) -> dict[str, float]:
    # What happens less than once in five calls belongs to no call.
    return {
        name: round(number / calls, 2)
        for name, number in sorted(numbers.items())
        if name not in _ASIDE and number > calls / 5
    }
