"""The groups of measures: each is a module whose ``run`` lets the peers take turns and returns what was found."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.measures.turns import Scale
    from benchmarks.results import Found
    from benchmarks.stage import Stage

NAMES = ("enqueue", "many", "worker", "locks", "beat", "package", "idle")


def run(name: str, stage: Stage, scale: Scale) -> Found:
    """Run one group."""
    found: Found = import_module(f"{__name__}.{name}").run(stage, scale)
    return found
