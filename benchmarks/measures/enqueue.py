"""What a call costs its caller, and what it asks of Redis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.agents import AgentError
from benchmarks.figures import Rounds
from benchmarks.measures.counting import counted
from benchmarks.measures.turns import Turns, turns_of
from benchmarks.results import Found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.agents import Agent
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

CALLS = tuple(
    f"enqueue.{name}" for name in "not_unique free duplicate ignored on_commit control ping".split()
)
AT_ONCE = "enqueue.on_commit_1000"
MEASURES = (*CALLS, AT_ONCE)
#: What the ratio of each measure is to, where it is not a call of the base that is not unique.
BASES = {name: name for name in ("enqueue.on_commit", AT_ONCE)}


def run(stage: Stage, scale: Scale) -> Found:
    """Let them all take turns; processes are started anew a few times, for no two of them are equally fast."""
    peers = stage.in_group("enqueue")
    rounds, found = Rounds(), Found()
    starts, each = scale.of(3, 1), scale.of(24, 8)
    calls, at_once = scale.of(50, 25), scale.of(1000, 200)
    for start in range(starts):
        with stage.agents(peers) as (agents, gaps):
            found.gaps |= gaps
            turns = Turns(stage, agents, rounds)
            wanted = turns_of(agents, CALLS, calls) + turns_of(agents, [AT_ONCE], at_once, every=6)
            ready = turns.warm_up(wanted, scale.of(100, 30))
            turns.rounds(ready, range(start * each, (start + 1) * each))
            if start == starts - 1:
                found.facts = _counts(stage, agents)
    for peer in peers:
        for measure in MEASURES:
            found.take(rounds, measure, peer.name, (BASES.get(measure, "enqueue.not_unique"), peer.base))
    found.about = {"rounds": starts * each, "calls": calls, "at_once": at_once, "starts": starts}
    return found


def _counts(stage: Stage, agents: Mapping[str, Agent]) -> dict[str, dict[str, object]]:
    counts: dict[str, dict[str, object]] = {}
    peers = {peer.name: peer for peer in stage.peers}
    for name, agent in agents.items():
        for measure in MEASURES:
            if measure not in agent.measures or measure == "enqueue.ping":
                continue
            # A duplicate that waits a second is counted too, but not often.
            few, more = (1, 2) if (name, measure) == _SLOW else (20, 60)
            try:
                row = counted(stage, partial(agent.run, measure), few, more)
            except AgentError:
                continue
            counts.setdefault(measure, {})[name] = row
            stage.flush(peers[name])
    return counts


_SLOW = ("celery_heimdall", "enqueue.duplicate")
