"""Writes the table: cell -> passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.matrix.cells import DIMENSIONS, RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.matrix.cells import Cell
    from tests.matrix.environments import Environment
    from tests.matrix.run import Result

HEAD = """\
# Where it was tried

`make matrix` plays one scenario (`tests/matrix/scenario.py`) in each of the places below, with real servers and a real
worker, and writes this page: a plain call, a duplicate that joins, an ignore window, retries that keep the claim,
failure, expiry and revoke that end it, a commit and a rollback, many calls at once, a duplicate in a chain and in a
chord, a lock that keeps a task out, and a worker killed with SIGKILL, whose key is free within its lease.

All combinations would be far too many. These cells hold every possible *pair* of values, and each combination of
Python, Django and Celery at least once. The environment `lowest` has each library at the lowest version that the
package allows.
"""


def page(
    results: Mapping[Cell, Result],
    environments: Mapping[str, Environment],
    units: Mapping[str, Result],
    servers: Mapping[str, str],
) -> str:
    """Return the page, with nothing in it that changes by itself but seconds."""
    notes: dict[str, int] = {}
    parts = [
        HEAD,
        "## Cells\n",
        _table(_cells(results, notes)),
        *(f"- [{number}] {why}" for why, number in notes.items()),
        "\nLeft out, because they can't be:\n",
        *(f"- {_rule(*rule)}" for rule in RULES),
        "\n## Versions\n",
        *_unit_tests(environments, units),
        _table(_environments(environments, units, notes)),
        "\n## Servers\n",
        _table([["server", "version"], *([name, version] for name, version in servers.items())]),
    ]
    return "\n".join(parts) + "\n"


def _unit_tests(environments: Mapping[str, Environment], units: Mapping[str, Result]) -> Iterator[str]:
    if units.keys() >= environments.keys():
        yield "The unit tests ran once in each environment.\n"
    elif units:
        yield "The unit tests ran in some of these environments; `make matrix` without options runs them in all, for hours.\n"


def _cells(results: Mapping[Cell, Result], notes: dict[str, int]) -> Iterator[list[str]]:
    yield [
        "environment",
        *(name for name in DIMENSIONS if name in ("broker", "backend", "cache", "pool")),
        "",
        "s",
    ]
    for cell, result in results.items():
        values = [cell.broker, cell.backend, cell.cache, cell.pool]
        yield [f"`{cell.environment}`", *values, _verdict(result, notes), f"{result.seconds:.0f}"]


def _environments(
    environments: Mapping[str, Environment], units: Mapping[str, Result], notes: dict[str, int]
) -> Iterator[list[str]]:
    names = list(dict.fromkeys(name for there in environments.values() for name in there.versions))
    yield ["environment", *names, "unit tests"]
    for name, there in environments.items():
        result = units.get(name)
        told = "not run" if result is None else _count(result)
        yield [f"`{name}`", *(there.versions.get(library, "") for library in names), told]


def _verdict(result: Result, notes: dict[str, int]) -> str:
    """Tell what a cell came to, with the numbers of the notes that say why something was left out."""
    if result.gap is not None:
        return f"**not run** {_note(result.gap, notes)}"
    reasons = dict.fromkeys(result.skipped.values())
    return " ".join([_count(result), *(_note(why, notes) for why in reasons)])


def _count(result: Result) -> str:
    if result.verdict == "FAILED":
        return f"**FAILED** {', '.join(f'`{name}`' for name in result.failed)}"
    return f"{result.passed} passed"


def _note(why: str, notes: dict[str, int]) -> str:
    return f"[{notes.setdefault(why, len(notes) + 1)}]"


def _rule(bound: tuple[str, Sequence[str]], needed: tuple[str, Sequence[str]], why: str) -> str:
    return f"{bound[0]} {' or '.join(bound[1])} without {needed[0]} {' or '.join(needed[1])}: {why}"


def _table(rows: Iterator[list[str]] | list[list[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)) + "\n"
