"""Many calls at once: on loopback, and with a network between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import Rounds
from benchmarks.measures.counting import BATCHED, counts_of_calls
from benchmarks.measures.turns import Turns, cpu, turns_of
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

#: One call after the other, as everyone can; and at once.
LOOPS = ("many.loop",)
BATCHES = ("many.kombu_batch", "many.many", "many.unique")
#: Seconds that a request takes longer through the proxy.
DELAY = 0.001
NETWORKS = {"loopback": 0.0, "delayed": DELAY}


def run(stage: Stage, scale: Scale) -> Found:
    """Measure the time for each message of a batch; a loop is shorter, so that machine and ratios drift less in a round."""
    peers = stage.in_group("many")
    found, messages, number = Found(), scale.of(10_000, 500), scale.of(9, 2)
    looped = scale.of(1000, 100)
    for network, delay in NETWORKS.items():
        rounds = Rounds()
        with stage.proxy(delay) as port, stage.agents(peers, port) as (agents, gaps):
            found.gaps |= gaps
            turns = Turns(stage, agents, rounds)
            wanted = turns_of(agents, LOOPS, looped) + turns_of(agents, BATCHES, messages)
            ready = turns.warm_up(wanted, 50)
            turns.rounds(ready, range(number))
        for peer in peers:
            for measure in (*LOOPS, *BATCHES):
                cell = rounds.cell(measure, peer.name, ("many.loop", peer.base))
                busy = rounds.cell(cpu(measure), peer.name, (cpu("many.loop"), peer.base))
                for name, each in ((f"{measure} {network}", cell), (cpu(f"{measure} {network}"), busy)):
                    if each is not None:
                        found.cells.setdefault(name, {})[peer.name] = each
    measures = (*LOOPS, *BATCHES)
    found.facts = counts_of_calls(stage, peers, measures, dict.fromkeys(BATCHES, BATCHED))
    found.about = {
        "messages": messages,
        "looped": looped,
        "rounds": number,
        "delay_ms": DELAY * 1000,
    }
    return found
