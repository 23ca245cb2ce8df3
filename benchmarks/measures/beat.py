"""What ten thousand entries cost a beat."""

from __future__ import annotations

from itertools import product
from time import monotonic
from typing import TYPE_CHECKING

from benchmarks.agents import AgentError
from benchmarks.figures import Rounds
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.agents import Agent
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

KINDS = ("interval", "crontab")
STEPS = ("first", "takeover", "tick", "look", "fire")
#: Seconds that a beat may take for all steps.
PATIENCE = 300.0
#: Seconds after which once is enough.
TOO_LONG = 10.0


def run(stage: Stage, scale: Scale) -> Found:
    """Let each beat do each step, one after the other: they have nothing to wait for but their own server."""
    peers = stage.in_group("beat")
    rounds, found, slow = Rounds(), Found(), set()
    entries, number = scale.of(10_000, 1000), scale.of(3, 1)
    for at in range(number):
        with stage.agents(peers) as (agents, gaps):
            found.gaps |= gaps
            for kind, peer in product(KINDS, peers):
                if peer.name in agents and (peer.name, kind) not in slow:
                    began = monotonic()
                    _steps(agents[peer.name], f"beat.{kind}", entries, rounds, at)
                    stage.flush(peer)
                    if monotonic() - began > TOO_LONG:
                        slow.add((peer.name, kind))
    for peer, kind, step in product(peers, KINDS, STEPS):
        measure = f"beat.{kind}.{step}"
        found.take(rounds, measure, peer.name, (measure, peer.base))
    found.about = {"entries": entries, "rounds": number}
    return found


def _steps(agent: Agent, measure: str, entries: int, rounds: Rounds, at: int) -> None:
    try:
        steps = agent.run(measure, entries, PATIENCE)
    except AgentError as exc:
        for step in STEPS:
            rounds.gap(f"{measure}.{step}", agent.peer.name, str(exc))
    else:
        for step, spent in steps.items():
            rounds.add(f"{measure}.{step}", agent.peer.name, at, spent)
