"""Where the time of a call goes: `python -m benchmarks.profile_of ours enqueue.free`, any peer and any of its measures.

A profile makes Python slower than it is and Redis not: it tells what there is to look at, not what it costs.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.agents import AgentError
from benchmarks.peers import every_peer
from benchmarks.stage import Stage


def main() -> int:
    """Run one measure of one peer under a profiler."""
    peers = {peer.name: peer for peer in every_peer()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_of", description=__doc__)
    parser.add_argument("peer", choices=peers)
    parser.add_argument("measure", nargs="?", default="enqueue.not_unique", help="(enqueue.not_unique)")
    parser.add_argument("--calls", type=int, default=2000, help="(2000)")
    given = parser.parse_args()
    peer = peers[given.peer]
    with Stage([peer]) as stage, stage.agents([peer]) as (agents, _):
        if peer.name not in agents:
            return 1  # the stage has told why
        agent = agents[peer.name]
        if given.measure not in agent.measures:
            parser.error(f"{peer.name} knows {', '.join(agent.measures)}")
        try:
            agent.ask(given.measure, given.calls, profile=True)
            said = agent.answer()
        except AgentError as exc:
            print(exc, file=sys.stderr)
            return 1
    print(said["text"])
    print(f"{said['made']} calls of Python functions for each of {given.calls}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
