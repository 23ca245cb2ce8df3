"""Play the scenario in all cells and write docs/matrix.md; fail where a cell fails."""

from __future__ import annotations

import argparse
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix.cells import Cell, all_pairs, environments, lowest, place_corners, version_corners
from tests.matrix.environments import Environment, NoInterpreter, NotThere, environment
from tests.matrix.places import Servers, needs
from tests.matrix.report import page
from tests.matrix.run import Result, play, unit_tests
from tests.processes import ROOT

PAGE = ROOT / "docs" / "matrix.md"


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    cells = choose(options)
    if options.list:
        for cell in cells:
            say(str(cell))
        return 0
    made, gaps = make_environments(cells)
    with Servers({kind for cell in cells for kind in needs(cell)}) as servers:
        for why in servers.missing.values():
            say(f"missing: {why}")
        results = play_all(cells, made, gaps, servers, options.jobs)
        versions = servers.versions()
    units: dict[str, Result] = {}
    for name, there in made.items():
        if re.search(options.unit, name):
            units[name] = unit_tests(there, options.jobs)
            tell(f"unit tests in {name}", units[name])
    told = [*results.values(), *units.values()]
    if options.write is not None:
        options.write.write_text(page(results, made, units, versions), encoding="utf-8")
        say(f"wrote {options.write}")
    counts = {verdict: sum(r.verdict == verdict for r in told) for verdict in ("passed", "FAILED", "not run")}
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return 1 if any(is_bad(result) for result in told) else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--cells", type=int, help="play the first N only; default: all")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="REGEX",
        help="cells whose line (--list) has it; may be repeated",
    )
    parser.add_argument(
        "--corners", action="store_true", help="play a few cells that hold the ends, as CI does"
    )
    parser.add_argument("--list", action="store_true", help="print the cells and play none")
    parser.add_argument("--jobs", type=int, default=2, help="so many at once; default: %(default)s")
    parser.add_argument(
        "--unit",
        metavar="REGEX",
        help="run tests/unit in the environments whose name has it; default: in all of a whole run, else in none",
    )
    parser.add_argument(
        "--write", type=Path, help=f"the page; default: {PAGE.relative_to(ROOT)}, of a whole run"
    )
    options = parser.parse_args(argv)
    whole = not (options.cells or options.only or options.corners)
    if options.unit is None:
        options.unit = "" if whole else "$^"
    if options.write is None and whole:
        options.write = PAGE
    return options


def choose(options: argparse.Namespace) -> list[Cell]:
    cells = [*place_corners(), *version_corners()] if options.corners else [*all_pairs(), *lowest()]
    cells = [cell for cell in cells if all(re.search(text, str(cell)) for text in options.only)]
    return sorted(cells[: options.cells], key=lambda cell: cell.order)


def make_environments(cells: list[Cell]) -> tuple[dict[str, Environment], dict[str, NotThere]]:
    """Return the environments that can be had, and why the others can't."""
    made: dict[str, Environment] = {}
    gaps: dict[str, NotThere] = {}
    for name in environments(cells):
        there = made_or_not(name)
        if isinstance(there, NotThere):
            gaps[name] = there
            say(f"environment {name}: {there}")
        else:
            made[name] = there
            say(f"environment {name}: {' '.join('-'.join(pair) for pair in there.versions.items())}")
    return made, gaps


def made_or_not(name: str) -> Environment | NotThere:
    try:
        return environment(name)
    except NotThere as exc:
        return exc


def play_all(
    cells: list[Cell],
    made: dict[str, Environment],
    gaps: dict[str, NotThere],
    servers: Servers,
    jobs: int,
) -> dict[Cell, Result]:
    def one(number: int, cell: Cell) -> Result:
        if cell.environment in gaps:
            gap = gaps[cell.environment]
            result = Result(gap=str(gap), excused=isinstance(gap, NoInterpreter))
        elif (missing := servers.gap(cell)) is not None:
            result = Result(gap=missing)
        else:
            result = play(cell, number, servers, made[cell.environment])
        tell(f"[{number + 1}/{len(cells)}] {cell}", result)
        return result

    with ThreadPoolExecutor(jobs) as executor:
        return dict(zip(cells, executor.map(one, range(len(cells)), cells), strict=True))


def is_bad(result: Result) -> bool:
    """Tell whether the run fails for it. In CI every server has to be there."""
    gap = result.gap is not None and not result.excused and os.environ.get("CI") == "true"
    return result.verdict == "FAILED" or gap


def tell(what: str, result: Result) -> None:
    say(f"{what}: {result}")
    if result.output:
        say(result.output)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    sys.exit(main())
