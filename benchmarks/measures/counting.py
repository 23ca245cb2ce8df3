"""What a call asks of Redis: the commands that are sent, those that scripts run, and the waits for an answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.agents import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from benchmarks.peers.base import Peer
    from benchmarks.stage import Stage

#: What libraries ask when they connect and in the background, and what our own looking is.
_ASIDE = frozenset(
    "hello select client|setinfo client ping script|load script flushdb info monitor echo brpop blpop".split()
)
#: Seconds of a network that answers only after all of a batch was sent.
FAR = 0.005


@dataclass(frozen=True, kw_only=True)
class Often:
    """How often it is done to be counted: the difference between few and more, so that what comes once is not in it."""

    few: int = 5
    more: int = 15
    #: What a call has less of belongs to something else.
    least: float = 0.2


#: For what goes out in batches.
BATCHED = Often(few=500, more=2500, least=0.001)


def counts_of_calls(
    stage: Stage, peers: Sequence[Peer], measures: Iterable[str], often: Mapping[Any, Often]
) -> dict[str, dict[str, Any]]:
    """Return what each measure of each peer asks, by measure and peer; ``often`` by measure, or peer and measure."""
    counts: dict[str, dict[str, Any]] = {}
    wanted = list(measures)
    with stage.network(FAR) as network, stage.agents(peers, network.port) as (agents, _):
        for peer in peers:
            for measure in wanted:
                agent = agents.get(peer.name)
                if agent is None or measure not in agent.measures:
                    continue
                each = often.get((peer.name, measure)) or often.get(measure) or Often()
                try:
                    agent.run(measure, 2)
                    row = counted(stage, partial(agent.run, measure), each, trips=lambda: network.trips)
                except AgentError:
                    continue
                counts.setdefault(measure, {})[peer.name] = row
                stage.flush(peer)
    return counts


def counted(
    stage: Stage,
    what: Callable[[int], Any],
    often: Often,
    *,
    before: Callable[[int], Any] = lambda _: None,
    trips: Callable[[], int] | None = None,
) -> dict[str, Any]:
    """Return what one call cost: ``sent`` and ``inside`` by the name of the command, and ``waits``.

    Without a network that counts ``trips`` a wait is a read of the server's from a client. What is done ``before`` each
    does not count.
    """
    before(often.few)
    less = _look(stage, what, often.few, trips)
    before(often.more)
    all_of_it = _look(stage, what, often.more, trips)
    sent, calls = all_of_it.sent - less.sent, often.more - often.few

    def each(numbers: Counter[str]) -> dict[str, float]:
        return {
            name: round(number / calls, 3)
            for name, number in sorted(numbers.items())
            if name not in _ASIDE and number > calls * often.least
        }

    return {
        "sent": each(sent),
        "inside": each(all_of_it.run - less.run - sent),
        "waits": round(max(0, all_of_it.waits - less.waits) / calls, 3),
    }


@dataclass(frozen=True, kw_only=True)
class _Looked:
    sent: Counter[str]
    run: Counter[str]
    waits: int


def _look(stage: Stage, what: Callable[[int], Any], calls: int, trips: Callable[[], int] | None) -> _Looked:
    waits = trips or partial(_reads, stage)
    before, run = waits(), Counter(stage.server.commands())
    with stage.server.recording() as recorded:
        what(calls)
    run = Counter(stage.server.commands()) - run
    return _Looked(sent=Counter(words[0].lower() for words in recorded), run=run, waits=waits() - before)


def _reads(stage: Stage) -> int:
    said: Any = stage.redis.info("stats")
    return int(said["total_reads_processed"])
