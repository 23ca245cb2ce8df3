"""Measures it all, or what is asked for, and writes the tables and the chart: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import chart, measures, pages
from benchmarks.measures.turns import Scale
from benchmarks.peers import every_peer
from benchmarks.results import Found
from benchmarks.stage import Stage
from benchmarks.venvs import HOME, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.base import Peer

DOCS = ROOT / "docs" / "benchmarks"


def names(text: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = [peer.name for peer in every_peer()]
    parser.add_argument(
        "--peers",
        type=names,
        default=[],
        help=f"only these, of {', '.join(known)}; what they are compared to comes along",
    )
    parser.add_argument(
        "--measures", type=names, default=[], help=f"only these, of {', '.join(measures.NAMES)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of it, to see that it runs; its figures mean little"
    )
    parser.add_argument(
        "--block",
        type=int,
        metavar="CALLS",
        help="calls of one kind in a row: four rounds of so many, in place of many rounds of fifty",
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write the tables of the last run again"
    )
    given = parser.parse_args()
    unknown = (set(given.peers) - set(known)) | (set(given.measures) - set(measures.NAMES))
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return given


def main() -> int:
    """Run the groups one after the other; what one has found is written at once."""
    given = arguments()
    # Only a whole run is for the docs.
    whole = not given.quick and not given.peers and given.block is None
    results = HOME / "results" if whole else HOME / "partial" / "results"
    docs = DOCS if whole else HOME / "partial" / "docs"
    if not whole:
        shutil.rmtree(docs, ignore_errors=True)
        shutil.copytree(DOCS, docs)
    everyone = every_peer()
    for group in given.measures or measures.NAMES:
        path = results / f"{group}.json"
        if not given.render:
            began = time.monotonic()
            taking_part = with_bases(group, given.peers, everyone)
            print(f"==> {group}: {', '.join(peer.name for peer in taking_part)}", flush=True)
            measure(group, taking_part, Scale(quick=given.quick, block=given.block)).write(path)
            print(f"    {time.monotonic() - began:.0f} s", flush=True)
        found = Found.read(path)
        if found is None:
            print(f"    {group}: there are no results to write")
            continue
        for page, mark, table in pages.BLOCKS[group]:
            lines = pages.text_of(mark, table, everyone, found)
            pages.put(docs / page, mark, lines)
            print("\n" + "\n".join(lines) + "\n", flush=True)
        if group == "enqueue":
            chart.draw(everyone, found, docs / pages.CHARTS["calls"][0])
    print(f"==> written to {docs.relative_to(ROOT)}")
    return 0


def with_bases(group: str, chosen: Sequence[str], everyone: Sequence[Peer]) -> list[Peer]:
    """Return the peers of a group that were chosen (all, if none was), and those that their ratios are to."""
    there = {peer.name: peer for peer in everyone if group in peer.groups}
    wanted = {name for name in there if name in chosen or not chosen}
    while more := {there[name].base for name in wanted} & set(there) - wanted:
        wanted |= more
    if group == "locks":
        wanted.add("floor")
    return [peer for peer in everyone if peer.name in wanted]


def measure(group: str, peers: Sequence[Peer], scale: Scale) -> Found:
    """Run one group on a stage of its own."""
    with Stage(peers) as stage:
        machine = pages.machine(stage.software())
        found = measures.run(group, stage, scale)
        machine["servers"] = ", ".join(stage.software())
        found.about |= {"machine": machine, "versions": stage.versions, "pythons": stage.pythons}
    found.about["peers"] = [peer.name for peer in peers]
    return found


if __name__ == "__main__":
    sys.exit(main())
