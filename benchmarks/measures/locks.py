"""What a lock costs, and how long its next holder waits."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from benchmarks.agents import AgentError
from benchmarks.figures import Rounds
from benchmarks.measures.turns import Turns, turns_of
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.agents import Agent
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

PAIRS = ("locks.pair", "locks.scripts")
HANDOFF = "locks.handoff"
FLOOR = ("locks.pair", "floor")


def run(stage: Stage, scale: Scale) -> Found:
    """Take and give back a free one; then hand it to a second process that waits for it."""
    peers = stage.in_group("locks")
    rounds, found = Rounds(), Found()
    number, calls, handoffs = scale.of(20, 4), scale.of(100, 30), scale.of(60, 5)
    with stage.agents(peers) as (holders, gaps), stage.agents(peers) as (waiters, _):
        found.gaps |= gaps
        turns = Turns(stage, holders, rounds)
        turns.rounds(turns.warm_up(turns_of(holders, PAIRS, calls), 20), range(number))
        chance = random.Random(1)  # noqa: S311 - phases, no secrets
        order = [
            name for name, agent in waiters.items() if name in holders and "locks.wait" in agent.measures
        ]
        for name in order:
            waiters[name].run("locks.pair", 20)
        for at in range(handoffs):
            chance.shuffle(order)
            for name in list(order):
                try:
                    spent = handoff(holders[name], waiters[name], chance)
                except AgentError as exc:
                    rounds.gap(HANDOFF, name, str(exc))
                    order.remove(name)
                    continue
                # Ten of them are a round: one alone has no median.
                rounds.add(HANDOFF, name, at // 10, [spent * 1e9])
    for peer in peers:
        found.take(rounds, "locks.pair", peer.name, FLOOR)
        found.take(rounds, "locks.scripts", peer.name, FLOOR)
        found.take(rounds, HANDOFF, peer.name, (HANDOFF, "ours"))
        scripts = rounds.cell("locks.pair", peer.name, ("locks.scripts", "ours"))
        if scripts is not None:
            found.cells.setdefault("locks.pair to scripts", {})[peer.name] = scripts
    found.about = {"rounds": number, "calls": calls, "handoffs": handoffs}
    return found


def handoff(holder: Agent, waiter: Agent, chance: random.Random) -> float:
    """Hold, let the other one wait, give back; returns the seconds until the other one has it."""
    holder.run("locks.hold")
    waiter.ask("locks.wait")
    waiter.answer()  # it is about to ask
    # Long enough for it to be asleep, and at no fixed phase of whatever it polls by.
    time.sleep(chance.uniform(0.05, 0.15))
    began = holder.run("locks.give_back")
    return float(waiter.answer() - began)
