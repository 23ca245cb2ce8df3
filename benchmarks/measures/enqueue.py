"""What a call costs its caller, and what it asks of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import Rounds
from benchmarks.measures.counting import BATCHED, Often, counts_of_calls
from benchmarks.measures.turns import Turns, cpu, turns_of
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.measures.turns import Scale
    from benchmarks.stage import Stage

CALLS = tuple(
    f"enqueue.{name}"
    for name in "not_unique free duplicate ignored on_commit control transaction ping".split()
)
AT_ONCE = "enqueue.on_commit_1000"
MEASURES = (*CALLS, AT_ONCE)
COUNTED = [name for name in MEASURES if name not in ("enqueue.ping", "enqueue.transaction")]
#: What goes out in batches is counted over many, and what waits a second over few.
OFTEN = {("ours", AT_ONCE): BATCHED, ("celery_heimdall", "enqueue.duplicate"): Often(few=1, more=2)}
#: What the ratio of each measure is to, where it is not a call of the base that is not unique.
BASES = {name: name for name in ("enqueue.on_commit", AT_ONCE)}


def run(stage: Stage, scale: Scale) -> Found:
    """Let them all take turns; processes are started anew a few times, for no two of them are equally fast."""
    peers = stage.in_group("enqueue")
    rounds, found = Rounds(), Found()
    starts, each = scale.of(3, 1), scale.of(24, 8)
    calls, at_once = scale.of(50, 25), scale.of(1000, 200)
    if scale.block is not None:
        starts, each, calls = 1, 4, scale.block
    for start in range(starts):
        with stage.agents(peers) as (agents, gaps):
            found.gaps |= gaps
            turns = Turns(stage, agents, rounds)
            wanted = turns_of(agents, CALLS, calls) + turns_of(agents, [AT_ONCE], at_once, every=6)
            ready = turns.warm_up(wanted, scale.of(100, 30))
            turns.rounds(ready, range(start * each, (start + 1) * each))
    found.facts = counts_of_calls(stage, peers, COUNTED, OFTEN)
    for peer in peers:
        for measure in MEASURES:
            base = BASES.get(measure, "enqueue.not_unique")
            found.take(rounds, measure, peer.name, (base, peer.base))
            found.take(rounds, cpu(measure), peer.name, (cpu(base), peer.base))
    found.about = {"rounds": starts * each, "calls": calls, "at_once": at_once, "starts": starts}
    return found
