"""What a process costs that has nothing to do: its heartbeat, after it worked, and while it holds a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.agents import AgentError
from benchmarks.figures import Gap
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.agents import Agent
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

STATES = ("idle.nothing", "idle.after_work", "idle.holding", "idle.holding_many")


def run(stage: Stage, scale: Scale) -> Found:
    """Let each rest in a process of its own, all at the same time: what is counted is their own."""
    peers = stage.in_group("idle")
    found, seconds = Found(), scale.of(20, 5)
    for states in (STATES[:2], STATES[2:3], STATES[3:]):
        with stage.agents(peers) as (agents, gaps):
            found.gaps |= gaps
            asked = []
            for state in states:
                for name, agent in agents.items():
                    if state in agent.measures:
                        agent.ask(state, seconds)
                        asked.append((state, name))
            for state, name in asked:
                _take(found, state, name, agents[name], seconds + 30.0)
    found.about = {"seconds": seconds}
    return found


def _take(found: Found, state: str, name: str, agent: Agent, patience: float) -> None:
    try:
        found.facts.setdefault(state, {})[name] = agent.answer(patience)
    except AgentError as exc:
        found.cells.setdefault(state, {})[name] = Gap(reason=str(exc))
