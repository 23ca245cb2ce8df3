"""What importing the package adds to a process: time, memory, modules."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.agents import AgentError
from benchmarks.figures import Rounds
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

MEASURE = "package.import"


def run(stage: Stage, scale: Scale) -> Found:
    """Import each a few times in processes of their own; the first time, which writes bytecode, does not count."""
    peers = stage.in_group("package")
    rounds, found, number = Rounds(), Found(), scale.of(7, 3)
    facts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with stage.agents(peers) as (agents, gaps):
        found.gaps |= gaps
        for at in range(-1, number):
            for name, agent in agents.items():
                try:
                    said = agent.run(MEASURE)
                except AgentError as exc:
                    rounds.gap(MEASURE, name, str(exc))
                    continue
                if at >= 0:
                    rounds.add(MEASURE, name, at, [said["ns"]])
                    for fact in ("bytes", "modules"):
                        facts[fact][name].append(said[fact])
    for peer in peers:
        found.take(rounds, MEASURE, peer.name, (MEASURE, peer.base))
    found.facts = {
        fact: {name: median(values) for name, values in row.items()} for fact, row in facts.items()
    }
    found.about = {"rounds": number}
    return found
