"""Prints the tour as a table that fits the terminal."""

import textwrap
from collections.abc import Sequence

GAP = "  "


class Table:
    """Columns of fixed width; cells are wrapped. A width of 0 is a share of what the others leave."""

    def __init__(self, titles: Sequence[str], widths: Sequence[int], total: int) -> None:
        flexible = widths.count(0)
        left = total - sum(widths) - len(GAP) * (len(widths) - 1)
        share = left // flexible if flexible else 0
        self._widths = [width or share for width in widths]
        self.titles = titles
        self.width = sum(self._widths) + len(GAP) * (len(widths) - 1)

    def head(self) -> str:
        """Give the titles over a rule."""
        return f"{self.row(self.titles)}\n{self.rule('═')}"

    def rule(self, stroke: str = "─") -> str:
        """Give a line as wide as the table."""
        return stroke * self.width

    def row(self, cells: Sequence[str]) -> str:
        """Give a row, as many lines high as its highest cell."""
        wrapped = [
            [part for line in cell.splitlines() for part in textwrap.wrap(line, width)]
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        lines = []
        for index in range(max(len(parts) for parts in wrapped)):
            texts = [parts[index] if index < len(parts) else "" for parts in wrapped]
            padded = [text.ljust(width) for text, width in zip(texts, self._widths, strict=True)]
            lines.append(GAP.join(padded).rstrip().replace("\xa0", " "))
        return "\n".join(lines)
