"""Puts what was measured into the pages: between its marks, so that what people wrote around it stays."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.peers.base import Peer
    from benchmarks.results import Found

#: The page and the mark of each table, by the group whose results it shows.
BLOCKS: dict[str, list[tuple[str, str, Callable[[Sequence[Peer], Found], list[str]]]]] = {
    "enqueue": [("index.md", "calls", tables.calls), ("enqueue.md", "commands", tables.commands)],
    "many": [("enqueue.md", "many", tables.many)],
    "worker": [("enqueue.md", "worker", tables.worker)],
    "locks": [("locks.md", "locks", tables.locks)],
    "beat": [("beat.md", "beat", tables.beat)],
    "package": [("index.md", "package", tables.package)],
    "idle": [("index.md", "idle", tables.idle)],
}
#: What was done, in a sentence under each table.
DONE = {
    "calls": "{calls} calls a block, {rounds} rounds, processes started {starts} times; {at_once} in one transaction.",
    "commands": "",
    "many": "{messages:,} messages a batch ({looped:,} in a loop), {rounds} rounds.",
    "worker": "{tasks:,} tasks a block, {rounds} rounds.",
    "locks": "{rounds} rounds of {calls}, and {handoffs} handoffs each.",
    "beat": "{entries:,} entries, {rounds} runs.",
    "package": "{rounds} processes each.",
    "idle": "Over {seconds} s.",
}
#: The chart above a table, and what it says to those who can't see it.
CHARTS = {
    "calls": (
        "calls.svg",
        "Time of a call by peer and kind, as ratios to plain Celery: the numbers of the table",
    )
}
NAMED = {"celery": "Celery", "django": "Django", "redis": "redis-py"}


def put(page: Path, mark: str, lines: Iterable[str]) -> None:
    """Write lines between ``<!-- bench: MARK -->`` and ``<!-- end -->``; raises where the page has no such place."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- bench: {re.escape(mark)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if len(place.findall(text)) != 1:
        msg = f"{page.name} has no place for {mark}"
        raise ValueError(msg)
    body = "\n".join(lines)
    page.write_text(place.sub(lambda found: f"{found[1]}\n{body}\n\n{found[2]}", text), encoding="utf-8")


def text_of(mark: str, table: Callable[..., list[str]], peers: Sequence[Peer], found: Found) -> list[str]:
    """Return a table and what is to be known of its making, under its chart where it has one."""
    chart = [f"![{CHARTS[mark][1]}]({CHARTS[mark][0]})", ""] if mark in CHARTS else []
    done = DONE[mark].format(**found.about)
    return [*chart, *table(peers, found), "", f"{done} {setting(found)}".strip()]


def setting(found: Found) -> str:
    """Return versions and machine in a sentence or two."""
    about = found.about
    together: dict[str, set[str]] = {}
    for versions in about["versions"].values():
        for package, version in versions.items():
            together.setdefault(package, set()).add(version)
    packages = ", ".join(
        f"{NAMED.get(name, name)} {' and '.join(sorted(each, reverse=True))}"
        for name, each in sorted(together.items())
    )
    machine = about["machine"]
    pythons = " and ".join(sorted(set(about["pythons"].values()), reverse=True))
    return (
        f"Python {pythons}; {packages}; {machine['servers']} on loopback. {machine['cores']} cores"
        f" ({machine['cpu']}), {machine['system']}, load {machine['load']:.1f} at the start."
    )


def machine(servers: Sequence[str]) -> dict[str, Any]:
    """Return what is to be known of this machine, without its name."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu(),
        "system": platform.system(),
        "load": os.getloadavg()[0],
        "servers": ", ".join(servers),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
