"""The Markdown tables, one for each group of measures or more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Cell, Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.base import Peer
    from benchmarks.results import Found

#: Columns of the table of calls.
CALLS = {
    "enqueue.not_unique": "not unique",
    "enqueue.free": "unique, free",
    "enqueue.duplicate": "unique, duplicate",
    "enqueue.ignored": "ignored",
    "enqueue.on_commit": "on commit",
    "enqueue.on_commit_1000": "1,000 on commit at once",
}
#: What helps to read it.
ASIDE = {
    ("enqueue.control", "ours"): "the control: a plain `celery.Task` in the process of `DjangoTask`",
    ("enqueue.transaction", "plain"): "an empty transaction, which each call on commit has around it",
    ("enqueue.ping", "floor"): "the floor: PING through a bare socket",
}
MICRO, MILLI = 1e3, 1e6
LONGEST_REASON = 160
#: What a peer does not have.
NOTHING = "-"


def titles(peers: Sequence[Peer], found: Found, *, short: bool = False) -> dict[str, str]:
    """Return what the peers are called, with the versions that ran."""
    versions = found.about.get("versions", {})
    return {
        peer.name: titled(peer.short or peer.title if short else peer.title, versions.get(peer.name, {}))
        for peer in peers
    }


def titled(words: str, versions: dict[str, str]) -> str:
    """Put versions into a title; those of a peer that did not run are left out."""
    filled = re.sub(r"\{([\w-]+)\}", lambda named: versions.get(named[1], ""), words)
    return re.sub(r" +([:,]|$)", r"\1", re.sub(" +", " ", filled))


def lines_of(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return a table whose first columns are words and whose others are numbers."""
    align = "|".join(["---"] * left + ["--:"] * (len(columns) - left))
    return [f"| {' | '.join(columns)} |", f"|{align}|", *(f"| {' | '.join(row)} |" for row in rows)]


def number(value: float) -> str:
    """Return three digits that tell something."""
    if value >= 100:  # noqa: PLR2004 - digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 - digits


def ratio(cell: Cell) -> str:
    """Return a ratio with its sign, or nothing where there is no base."""
    return "" if cell.ratio is None else f"{number(cell.ratio)} x"


def in_words(cell: Cell | Gap | None, unit: float) -> str:
    """Return one cell: ratio, median and p99; the reason of a gap; a dash for what a peer does not have."""
    if cell is None:
        return NOTHING
    if isinstance(cell, Gap):
        return f"gap: {in_a_cell(cell.reason)}"
    return f"**{ratio(cell) or '?'}** {number(cell.median / unit)} / {number(cell.p99 / unit)}"


def in_a_cell(reason: str) -> str:
    """Return a reason as a table can show it, without the paths of this machine."""
    words = re.sub(r" *\(?(?<![\w.:/])/[^\s():]+\)?", "", " ".join(reason.split())).replace("|", "/")
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON].rstrip()} …"


def missing(found: Found, names: dict[str, str], columns: int) -> list[list[str]]:
    """Return a row for each peer that did not run, with the reason."""
    return [
        [names[peer], f"not measured: {in_a_cell(reason)}", *[""] * (columns - 2)]
        for peer, reason in found.gaps.items()
        if peer in names
    ]


def present(peers: Sequence[Peer], found: Found) -> list[Peer]:
    """Return the peers of a group that ran."""
    took_part = found.about.get("peers", [])
    return [peer for peer in peers if peer.name in took_part and peer.name not in found.gaps]


def calls(peers: Sequence[Peer], found: Found) -> list[str]:
    """What a call costs, as a ratio to plain Celery."""
    names = titles(peers, found)
    columns = ["x plain, median / p99 µs", *CALLS.values(), "waits for Redis (not unique, free, duplicate)"]
    rows = []
    for peer in present(peers, found):
        waits = [found.facts.get(name, {}).get(peer.name, {}).get("waits") for name in list(CALLS)[:3]]
        told = ", ".join(NOTHING if each is None else f"{each:g}" for each in waits)
        rows.append([names[peer.name], *(in_words(found.at(name, peer.name), MICRO) for name in CALLS), told])
    for (measure, peer_name), label in ASIDE.items():
        cell = found.cell(measure, peer_name)
        if cell is not None:
            rows.append([label, in_words(cell, MICRO), *[NOTHING] * (len(columns) - 2)])
    return lines_of(columns, rows + missing(found, names, len(columns)))


def commands(peers: Sequence[Peer], found: Found) -> list[str]:
    """What a call asks of Redis, and what it costs its own processor."""
    names = titles(peers, found)
    rows = []
    for name, call in CALLS.items():
        for peer in present(peers, found):
            row, busy = found.facts.get(name, {}).get(peer.name), found.cell(f"{name} cpu", peer.name)
            if row is None:
                continue
            asked = [_each(row["sent"]), _each(row["inside"]), f"{row['waits']:g}"]
            own = ["", ""] if busy is None else [number(busy.median / MICRO), ratio(busy)]
            rows.append([call, names[peer.name], *asked, *own])
    columns = [
        "call",
        "",
        "commands sent",
        "run by scripts in the server",
        "waits",
        "CPU of the caller, µs",
        "x plain",
    ]
    return lines_of(columns, rows, left=4)


def many(peers: Sequence[Peer], found: Found) -> list[str]:
    """What a message of many costs."""
    names = titles(peers, found)
    ways = {
        ("plain", "many.loop"): "{}, one call after the other",
        ("plain", "many.kombu_batch"): "{}, in a loop inside of kombu's `Producer.batch()`",
        ("ours", "many.many"): "{}: `apply_async_many`",
        ("ours", "many.unique"): "{}: `apply_async_many`, unique",
    }
    rows = []
    for (peer, measure), words in ways.items():
        if peer not in found.about.get("peers", []):
            continue
        cells = [found.at(f"{measure} {network}", peer) for network in ("loopback", "delayed")]
        busy = found.at(f"{measure} loopback cpu", peer)
        asked = found.facts.get(measure, {}).get(peer)
        waits = f"{asked['waits']:g}" if asked else ""
        figures = [word for cell in (*cells, busy) for word in _times_faster(cell)]
        rows.append([words.format(names[peer]), *figures, waits])
    columns = [
        "µs for each message",
        "loopback",
        "times the loop",
        "with 1 ms of network",
        "times the loop",
        "CPU of the caller",
        "times the loop",
        "waits for Redis, each",
    ]
    return lines_of(columns, rows)


def _times_faster(cell: Cell | Gap | None) -> tuple[str, str]:
    if not isinstance(cell, Cell):
        return in_words(cell, MICRO), ""
    return number(cell.median / MICRO), number(1 / cell.ratio) if cell.ratio else ""


def worker(peers: Sequence[Peer], found: Found) -> list[str]:
    """How fast a worker works off its queue."""
    names = titles(peers, found)
    kinds = {"worker.plain": "not unique", "worker.unique": "unique"}
    rows = []
    for peer in present(peers, found):
        for measure, kind in kinds.items():
            cell = found.at(measure, peer.name)
            if cell is None:
                continue
            if isinstance(cell, Gap):
                rows.append([names[peer.name], kind, in_words(cell, MICRO), "", "", "", "", "", ""])
                continue
            asked = found.facts.get(measure, {}).get(peer.name, {})
            busy = found.cell(f"{measure} cpu", peer.name)
            rows.append(
                [
                    names[peer.name],
                    kind,
                    number(1e9 / cell.median),
                    number(cell.median / MICRO),
                    ratio(cell),
                    "" if busy is None else number(busy.median / MICRO),
                    "" if busy is None else ratio(busy),
                    f"{asked['waits']:g}" if asked else "",
                    _each(asked.get("sent", {})),
                ]
            )
    columns = [
        "",
        "tasks",
        "a second",
        "µs each",
        "x plain",
        "CPU of the worker, µs each",
        "x plain",
        "waits for Redis, each",
        "commands, each",
    ]
    return lines_of(columns, rows + missing(found, names, len(columns)), left=2)


def _each(commands_of: dict[str, Any]) -> str:
    words = [
        name.upper() if times == 1 else f"{times:g} {name.upper()}" for name, times in commands_of.items()
    ]
    return ", ".join(words) or NOTHING


def locks(peers: Sequence[Peer], found: Found) -> list[str]:
    """What a lock costs, and how long its next holder waits."""
    names = titles(peers, found)
    columns = [
        "lock",
        "renewed while held",
        "take + give back, median µs",
        "p99 µs",
        "x the floor",
        "x our scripts alone",
        "handoff, median ms",
        "p99 ms",
        "x ours on Redis",
    ]
    scripts, label = found.at("locks.scripts", "ours"), "two EVALSHA of our scripts, nothing around"
    rows = []
    if isinstance(scripts, Cell):
        rows.append([label, "", *_pair(scripts), ratio(scripts), "1.00 x", "", "", ""])
    elif scripts is not None:
        rows.append([label, "", in_words(scripts, MICRO), *[""] * 6])
    for peer in present(peers, found):
        pair, handoff = found.at("locks.pair", peer.name), found.at("locks.handoff", peer.name)
        to_scripts = found.cell("locks.pair to scripts", peer.name)
        label = {"ours": "**`locks.lock`** on Redis", "floor": "the floor: two EVALSHA of `return 1`"}.get(
            peer.name
        )
        row = [label or names[peer.name], peer.renewed]
        if isinstance(pair, Cell):
            row += [*_pair(pair), ratio(pair), ratio(to_scripts) if to_scripts else ""]
        else:
            row += [in_words(pair, MICRO), "", "", ""]
        if isinstance(handoff, Cell):
            row += [number(handoff.median / MILLI), number(handoff.p99 / MILLI), ratio(handoff)]
        else:
            row += [in_words(handoff, MILLI), "", ""]
        rows.append(row)
    return lines_of(columns, rows + missing(found, names, len(columns)), left=2)


def _pair(cell: Cell) -> tuple[str, str]:
    return number(cell.median / MICRO), number(cell.p99 / MICRO)


def beat(peers: Sequence[Peer], found: Found) -> list[str]:
    """What so many entries cost a beat."""
    names = titles(peers, found) | {"ours": "**`LockedPersistentScheduler`**"}
    names["plain"] = names.get("plain", "").replace("celery.Task", "celery.beat.Scheduler")
    steps = {
        "first": "first start",
        "takeover": "takeover",
        "tick": "tick, nothing due",
        "look": "and a look at the schedule",
        "fire": "fire one slot",
    }
    rows = []
    for kind in ("interval", "crontab"):
        for peer in present(peers, found):
            cells = [found.at(f"beat.{kind}.{step}", peer.name) for step in steps]
            rows.append([names[peer.name], kind, *(_milliseconds(cell) for cell in cells)])
    columns = ["scheduler, ms", "schedules", *steps.values()]
    return lines_of(columns, rows + missing(found, names, len(columns)), left=2)


def _milliseconds(cell: Cell | Gap | None) -> str:
    if not isinstance(cell, Cell):
        return in_words(cell, MILLI)
    value = cell.median / MILLI
    return f"{value:.3f}" if value < 1 else number(value)


def package(peers: Sequence[Peer], found: Found) -> list[str]:
    """What importing it adds to a process."""
    names = titles(peers, found)
    rows = []
    for peer in present(peers, found):
        cell = found.at("package.import", peer.name)
        if not isinstance(cell, Cell):
            rows.append([names[peer.name], in_words(cell, MILLI), "", "", ""])
            continue
        added, modules = (found.facts[fact][peer.name] for fact in ("bytes", "modules"))
        row = [
            number(cell.median / MILLI),
            number(cell.p99 / MILLI),
            f"{added / 2**20:.1f}",
            f"{modules:.0f}",
        ]
        rows.append([names[peer.name], *row])
    columns = ["imported on top of Celery (and Django)", "ms, median", "p99", "MB resident", "modules"]
    return lines_of(columns, rows + missing(found, names, len(columns)))


def idle(peers: Sequence[Peer], found: Found) -> list[str]:
    """What a process costs that has nothing to do."""
    states = {
        "idle.nothing": ("plain", "Celery alone"),
        "idle.after_work": ("ours", "ours, after it held something"),
        "idle.holding": ("ours", "ours, holding a lock"),
        "idle.holding_many": ("ours", "ours, holding a hundred"),
    }
    rows = []
    for state, (peer, words) in states.items():
        said = found.facts.get(state, {}).get(peer)
        if said is not None:
            rows.append([words, number(said["cpu_ns"] / MILLI), number(max(0.0, said["woken"]))])
        else:
            rows.append([words, in_words(found.at(state, peer), MILLI), ""])
    return lines_of(["process at rest, each minute", "CPU ms", "wake-ups"], rows)
