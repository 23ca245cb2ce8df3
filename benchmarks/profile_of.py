"""Where the time of a call goes: `python -m benchmarks.profile_of ours enqueue.free`, any peer and any of its measures.

A profile makes Python slower than it is and Redis not: it tells what there is to look at, not what it costs. `--table`
prints the functions with the most own time as a Markdown table. `--count` prints how many functions each call calls,
Python's and C's, which is the same on every machine: `python -m benchmarks.profile_of ours --count`.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.agents import AgentError
from benchmarks.peers import every_peer
from benchmarks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What is counted where no measure is named.
COUNTED = tuple(f"enqueue.{name}" for name in "not_unique free duplicate ignored on_commit".split())


def table(top: Sequence[tuple[str, float, float, float]]) -> list[str]:
    """Return the functions with the most own time, of one call."""
    lines = ["| function | times | own µs | with all below it, µs |", "|---|--:|--:|--:|"]
    lines += [
        f"| `{name}` | {often:.4g} | {own * 1e6:.1f} | {everything * 1e6:.1f} |"
        for name, often, own, everything in top
    ]
    return lines


def told(said: dict[str, Any], given: argparse.Namespace, measure: str) -> str:
    """Return what is printed of one measure."""
    if given.count:
        return f"{measure} {said['made']}"
    if given.table:
        return "\n".join(table(said["top"]))
    return f"{said['text']}\n{said['made']} calls of functions for each of {given.calls}"


def main() -> int:
    """Run measures of one peer under a profiler."""
    peers = {peer.name: peer for peer in every_peer()}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile_of",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("peer", choices=peers)
    parser.add_argument("measures", nargs="*", help="(enqueue.not_unique; of --count five kinds of call)")
    parser.add_argument("--calls", type=int, help="(2000; of --count 500)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--count", action="store_true", help="print how many functions one call calls")
    how.add_argument("--table", action="store_true", help="print the 25 functions with the most own time")
    given = parser.parse_args()
    if given.calls is None:
        given.calls = 500 if given.count else 2000
    peer = peers[given.peer]
    with Stage([peer]) as stage, stage.agents([peer]) as (agents, _):
        if peer.name not in agents:
            return 1  # the stage has told why
        agent = agents[peer.name]
        if set(given.measures) - set(agent.measures):
            parser.error(f"{peer.name} knows {', '.join(agent.measures)}")
        known = [name for name in COUNTED if name in agent.measures]
        for measure in given.measures or (known if given.count else COUNTED[:1]):
            try:
                agent.ask(measure, given.calls, profile=True)
                print(told(agent.answer(), given, measure), flush=True)
            except AgentError as exc:
                print(f"{measure}: {exc}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
