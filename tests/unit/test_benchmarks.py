"""The report of the benchmarks: its arithmetic, its gaps, and that it leaves the rest of a page alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from benchmarks import agent, measures, pages, profile_of, tables
from benchmarks.__main__ import DOCS, with_bases
from benchmarks.figures import Cell, Gap, Rounds, percentile
from benchmarks.measures.turns import Turn, Turns
from benchmarks.peers import every_peer
from benchmarks.peers.base import Peer, calling
from benchmarks.results import Found

if TYPE_CHECKING:
    from pathlib import Path

CALL = "enqueue.not_unique"
PLAIN = Peer(name="plain", title="plain {celery}", packages=("celery",), groups=("enqueue",))
OTHER = Peer(name="other", title="other {other}: {celery}", packages=("other",), groups=("enqueue",))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1), (0.0, 1), (0.501, 51)]
)
def test_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
    assert percentile([7], share) == 7


def test_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    rounds = Rounds()
    # The machine slows down tenfold in the second round: the ratio of all medians would say something else.
    for number, (ours, plain) in enumerate([([2, 2, 90], [1, 1, 1]), ([20, 20], [10, 10]), ([6], [2])]):
        rounds.add(CALL, "ours", number, ours)
        rounds.add(CALL, "plain", number, plain)
    cell = rounds.cell(CALL, "ours", (CALL, "plain"))
    assert cell == Cell(median=13, p99=90, ratio=2, count=6, rounds=3)
    base = rounds.cell(CALL, "plain", (CALL, "plain"))
    assert isinstance(base, Cell)
    assert base.ratio == 1


def test_blocks_of_one_round_belong_together() -> None:
    rounds = Rounds()
    for spent in ([4], [6], [8]):
        rounds.add(CALL, "ours", 0, spent)
    rounds.add(CALL, "plain", 0, [3])
    assert rounds.cell(CALL, "ours", (CALL, "plain")) == Cell(median=6, p99=8, ratio=2, count=3, rounds=1)


def test_rounds_that_only_one_of_them_has_make_no_ratio() -> None:
    rounds = Rounds()
    rounds.add(CALL, "ours", 0, [100])
    rounds.add(CALL, "ours", 1, [3])
    rounds.add(CALL, "plain", 1, [2])
    rounds.add(CALL, "plain", 2, [50])
    cell = rounds.cell(CALL, "ours", (CALL, "plain"))
    assert isinstance(cell, Cell)
    assert cell.ratio == 1.5
    assert rounds.cell(CALL, "ours", (CALL, "nobody")) == Cell(
        median=51.5, p99=100, ratio=None, count=2, rounds=2
    )
    assert rounds.cell(CALL, "nobody", (CALL, "plain")) is None


def test_who_failed_once_is_a_gap_with_the_first_reason() -> None:
    rounds = Rounds()
    rounds.add(CALL, "ours", 0, [1])
    rounds.gap(CALL, "ours", "it ended with -9")
    rounds.gap(CALL, "ours", "no answer")
    assert rounds.cell(CALL, "ours") == Gap(reason="it ended with -9")


@pytest.fixture
def found() -> Found:
    """Plain Celery, and what the test adds."""
    rounds, found = Rounds(), Found()
    rounds.add(CALL, "plain", 0, [500_000, 510_000, 900_000])
    found.take(rounds, CALL, "plain", (CALL, "plain"))
    found.facts = {CALL: {"plain": {"waits": 1.0, "sent": {"lpush": 1}, "inside": {}}}}
    found.about = {"peers": ["plain", "other"], "versions": {"plain": {"celery": "5.7.0"}}}
    return found


def test_results_survive_being_kept(found: Found, tmp_path: Path) -> None:
    found.cells["enqueue.free"] = {"plain": Gap(reason="no")}
    found.gaps = {"other": "does not install"}
    found.write(tmp_path / "new" / "enqueue.json")
    assert Found.read(tmp_path / "new" / "enqueue.json") == found
    assert Found.read(tmp_path / "nothing.json") is None


def test_a_peer_that_did_not_run_is_a_row_with_its_reason(found: Found) -> None:
    found.gaps = {"other": "no matching distribution"}
    *_, plain, other = tables.calls([PLAIN, OTHER], found)
    assert plain.startswith("| plain 5.7.0 | **1.00 x** 510 / 900 | - |")
    assert other.startswith("| other: | not measured: no matching distribution |")
    assert plain.count("|") == other.count("|")


def test_a_measure_that_failed_is_a_cell_with_its_reason(found: Found) -> None:
    found.cells[CALL]["other"] = Gap(reason="TypeError: no such option")
    other = tables.calls([PLAIN, OTHER], found)[-1]
    assert "| gap: TypeError: no such option |" in other


def test_a_reason_fits_into_a_cell_and_names_no_paths() -> None:
    said = "ImportError: cannot import name 'A' from 'b' (/home/me/x/lib/b.py)\nat redis://127.0.0.1:1/0 | and/or"
    assert (
        tables.in_a_cell(said)
        == "ImportError: cannot import name 'A' from 'b' at redis://127.0.0.1:1/0 / and/or"
    )
    assert tables.in_a_cell("word " * 100).endswith("word …")


def test_who_was_not_asked_to_take_part_is_no_row(found: Found) -> None:
    found.about["peers"] = ["plain"]
    assert not any("other" in line for line in tables.calls([PLAIN, OTHER], found))


def test_titles_name_the_versions_that_ran() -> None:
    found = Found(about={"versions": {"other": {"other": "1.2", "celery": "5.2"}}})
    assert tables.titles([OTHER, PLAIN], found) == {"other": "other 1.2: 5.2", "plain": "plain"}


def test_only_what_stands_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- bench: a -->\nold\n<!-- end -->\nbetween\n<!-- bench: b -->\n<!-- end -->\nafter\n"
    )
    for _ in range(2):  # the same again changes nothing
        pages.put(page, "a", ["| new \\1 |"])
    assert page.read_text() == (
        "before\n<!-- bench: a -->\n\n| new \\1 |\n\n<!-- end -->\nbetween\n<!-- bench: b -->\n<!-- end -->\nafter\n"
    )
    with pytest.raises(ValueError, match="has no place for c"):
        pages.put(page, "c", [])


def test_every_table_has_its_place_in_the_docs() -> None:
    assert set(pages.BLOCKS) == set(measures.NAMES)
    for page, mark, _ in (block for blocks in pages.BLOCKS.values() for block in blocks):
        assert (DOCS / page).read_text().count(f"<!-- bench: {mark} -->") == 1, (page, mark)
        assert mark in pages.DONE


def test_what_a_peer_is_compared_to_comes_along() -> None:
    everyone = every_peer()
    assert [peer.name for peer in with_bases("enqueue", ["old"], everyone)] == ["plain", "plain_52", "old"]
    assert [peer.name for peer in with_bases("locks", ["kazoo"], everyone)] == ["kazoo", "floor"]
    everybody = {peer.name for peer in everyone if "enqueue" in peer.groups}
    assert {peer.name for peer in with_bases("enqueue", [], everyone)} == everybody


def test_peers_are_what_their_modules_are_called() -> None:
    peers = {peer.name: peer for peer in every_peer()}
    for peer in peers.values():
        assert set(peer.groups) <= set(measures.NAMES)
        assert peer.base in peers
        # Who shares a venv asks for nothing that is not in it.
        owner = peers[peer.venv or peer.name]
        assert (set(peer.requirements), peer.overrides) == (set(owner.requirements), owner.overrides)


def test_a_profile_counts_what_a_call_calls_and_not_what_measuring_does() -> None:
    def body(number: int) -> None:
        sorted([abs(number)])

    found = agent.profile(calling(body), 200)
    assert found["made"] == 2
    assert agent.profile(calling(lambda _: None), 200)["made"] == 0
    often = {name: often for name, often, *_ in found["top"]}
    assert often["<built-in method builtins.abs>"] == 1
    assert often[f"tests/unit/test_benchmarks.py:{body.__code__.co_firstlineno} body"] == 1


def test_a_profile_is_printed_as_a_table() -> None:
    assert profile_of.table([("kombu/messaging.py:180 publish", 1.0, 0.0000123, 0.00345)])[-1] == (
        "| `kombu/messaging.py:180 publish` | 1 | 12.3 | 3450.0 |"
    )


class Agents:
    """An agent whose blocks take so many milliseconds a call, one after the other; the last for ever."""

    cpu = 0

    def __init__(self, *takes: int) -> None:
        self.takes, self.blocks = list(takes), list[int]()

    def run(self, measure: str, calls: int) -> list[int]:
        self.blocks.append(calls)
        each = self.takes.pop(0) if len(self.takes) > 1 else self.takes[0]
        return [each * 1_000_000] * calls


@pytest.mark.parametrize(
    ("takes", "looks", "ready"),
    [
        ((1,), [3, 30], (50, 1)),
        ((900, 1), [3, 3], (50, 1)),  # its first call had to compile what it imports
        ((900,), [3, 3], (1, 8)),
    ],
)
def test_what_is_slow_twice_is_measured_seldom(
    takes: tuple[int, ...], looks: list[int], ready: tuple[int, int]
) -> None:
    """Naive: what is slow in a new venv is measured by single calls, and its first is all that is measured."""
    agent, stage = Agents(*takes), SimpleNamespace(peers=[PLAIN], flush=lambda _: None)
    turns = Turns(stage, {"plain": agent}, Rounds())  # type: ignore[arg-type, dict-item]
    (turn,) = turns.warm_up([Turn(peer="plain", measure=CALL, calls=50)], 30)
    assert agent.blocks == looks
    assert (turn.calls, turn.every) == ready
