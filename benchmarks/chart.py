"""The chart of the calls: bars of ratios to plain Celery, as an SVG that reads on light and dark pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.tables import CALLS, number, titles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.base import Peer
    from benchmarks.results import Found

#: As far from white as from the black of a dark page.
INK, OURS, OTHERS, FLOOR = "#757a82", "#2f81f7", "#9a8f80", "#6f9a76"
#: Longer bars are cut off, and tell their length.
LONGEST = 2.2
BAR, GAP = 0.21, 0.5
#: Room for a number beside its bar.
LABEL = 0.16


def draw(peers: Sequence[Peer], found: Found, path: Path) -> None:
    """Write the chart; the same figures make the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    )
    from matplotlib import pyplot as plt

    panels = [(words, bars_of(name, peers, found)) for name, words in CALLS.items()]
    panels = [(words, bars) for words, bars in panels if bars]
    if not panels:
        return
    heights = [len(bars) + GAP for _, bars in panels]
    figure, every_axes = plt.subplots(
        len(panels),
        1,
        sharex=True,
        squeeze=False,
        figsize=(8.4, BAR * sum(heights) + 0.42 * len(panels) + 0.5),
        gridspec_kw={"height_ratios": heights},
    )
    for axes, (words, bars) in zip(every_axes[:, 0], panels, strict=True):
        _panel(axes, words, bars)
    every_axes[-1, 0].set_xlabel("x plain celery.Task in the same round", color=INK)
    figure.tight_layout(h_pad=0.6)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def bars_of(measure: str, peers: Sequence[Peer], found: Found) -> list[tuple[str, float, str]]:
    """Return title, ratio and colour of each peer that was measured, the fastest first."""
    names = titles(peers, found, short=True)
    bars = []
    for peer in peers:
        cell = found.cell(measure, peer.name)
        # The bases are the line at 1.
        if cell is None or cell.ratio is None or (peer.name.startswith("plain")):
            continue
        colour = OURS if peer.ours else FLOOR if peer.name == "floor" else OTHERS
        bars.append((names[peer.name].replace("`", ""), cell.ratio, colour))
    return sorted(bars, key=lambda bar: bar[1])


def _panel(axes: object, words: str, bars: Sequence[tuple[str, float, str]]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)  # noqa: S101 - for mypy
    places = range(len(bars))
    axes.barh(
        places, [min(ratio, LONGEST) for _, ratio, _ in bars], color=[bar[2] for bar in bars], height=0.72
    )
    for place, (_, ratio, _) in zip(places, bars, strict=True):
        label = f"{ratio:.2f}" if ratio <= LONGEST else f"{number(ratio)} »"
        # Beside the line, not on it.
        end = 1.0 if 1 - LABEL < ratio < 1 else min(ratio, LONGEST)
        axes.text(end + 0.02, place, label, va="center", color=INK, fontsize=8)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yticks(list(places), [name for name, _, _ in bars], color=INK)
    for label, (_, _, colour) in zip(axes.get_yticklabels(), bars, strict=True):
        if colour == OURS:
            label.set(color=OURS, fontweight="bold")
    axes.set_title(words, loc="left", color=INK, fontsize=10, fontweight="bold", pad=3)
    axes.set_xlim(0, LONGEST * 1.16)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(colors=INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
