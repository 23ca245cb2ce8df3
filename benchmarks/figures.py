"""The arithmetic of the report: medians, p99, ratios within a round, and gaps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was found of one measure of one peer, in nanoseconds."""

    median: float
    p99: float
    #: Median of the ratios to the base within a round; None without a base.
    ratio: float | None
    #: How much was measured, and in how many rounds.
    count: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why there is nothing to show."""

    reason: str


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


class Rounds:
    """What the peers were measured at, round by round."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(dict)
        self._gaps: dict[tuple[str, str], str] = {}

    def add(self, measure: str, peer: str, number: int, spent: Sequence[float]) -> None:
        """Note a block; more of the same round belong together."""
        if spent:
            self._blocks[measure, peer].setdefault(number, []).extend(spent)

    def gap(self, measure: str, peer: str, reason: str) -> None:
        """Note why this is not measured (any more). The first reason stays."""
        self._gaps.setdefault((measure, peer), reason)

    def gaps(self) -> dict[tuple[str, str], str]:
        return dict(self._gaps)

    def cell(self, measure: str, peer: str, base: tuple[str, str] | None = None) -> Cell | Gap | None:
        """Return what was found; None where the peer knows no such measure. A gap is a gap, whatever came before it.

        ``base`` names the measure and peer that the ratio is to. Rounds that only one of them has don't count.
        """
        reason = self._gaps.get((measure, peer))
        if reason is not None:
            return Gap(reason=reason)
        found = self._blocks.get((measure, peer))
        if not found:
            return None
        everything = [spent for block in found.values() for spent in block]
        return Cell(
            median=median(everything),
            p99=percentile(everything, 0.99),
            ratio=None if base is None else self._ratio(found, self._blocks.get(base, {})),
            count=len(everything),
            rounds=len(found),
        )

    @staticmethod
    def _ratio(found: dict[int, list[float]], base: dict[int, list[float]]) -> float | None:
        pairs = [(block, base[number]) for number, block in found.items() if number in base]
        return median(median(ours) / median(theirs) for ours, theirs in pairs) if pairs else None


def packed(cell: Cell | Gap | None) -> dict[str, Any] | None:
    """Return it as JSON takes it."""
    return None if cell is None else asdict(cell)


def unpacked(said: dict[str, Any] | None) -> Cell | Gap | None:
    """Return what :func:`packed` made JSON of."""
    if said is None:
        return None
    return Gap(**said) if "reason" in said else Cell(**said)
