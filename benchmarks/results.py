"""What a group of measures found, as it is kept in .bench/results between runs and read by the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Cell, Gap, Rounds, packed, unpacked

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Found:
    """The cells of a group, by measure and peer, and what else it has to tell."""

    cells: dict[str, dict[str, Cell | Gap]] = field(default_factory=dict)
    #: Peers of the group that did not run at all, with the reason.
    gaps: dict[str, str] = field(default_factory=dict)
    #: Figures that are no durations, by measure and peer.
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How much was done, machine, versions: what the report names.
    about: dict[str, Any] = field(default_factory=dict)

    def take(self, rounds: Rounds, measure: str, peer: str, base: tuple[str, str] | None = None) -> None:
        """Keep the cell of a measure, where there is one."""
        cell = rounds.cell(measure, peer, base)
        if cell is not None:
            self.cells.setdefault(measure, {})[peer] = cell

    def at(self, measure: str, peer: str) -> Cell | Gap | None:
        """Return a cell; the gap of the whole peer where it has none."""
        cell = self.cells.get(measure, {}).get(peer)
        if cell is None and peer in self.gaps:
            return Gap(reason=self.gaps[peer])
        return cell

    def cell(self, measure: str, peer: str) -> Cell | None:
        """Return a cell that was measured."""
        cell = self.at(measure, peer)
        return cell if isinstance(cell, Cell) else None

    def write(self, path: Path) -> None:
        """Keep it in a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {
            "cells": {
                name: {peer: packed(cell) for peer, cell in row.items()} for name, row in self.cells.items()
            },
            "gaps": self.gaps,
            "facts": self.facts,
            "about": self.about,
        }
        path.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> Found | None:
        """Return what :meth:`write` kept; None where there is nothing."""
        if not path.exists():
            return None
        said = json.loads(path.read_text())
        cells = {
            name: {peer: cell for peer, each in row.items() if (cell := unpacked(each)) is not None}
            for name, row in said["cells"].items()
        }
        return cls(cells=cells, gaps=said["gaps"], facts=said["facts"], about=said["about"])
