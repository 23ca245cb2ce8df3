"""A cut of a chaos run fails where its report says so, and is made again where the clock was set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import cut
from tests.chaos.program import VOID, is_void

if TYPE_CHECKING:
    from pathlib import Path

GOOD, BAD = "violations: 0", "violations: 1"


class Runs:
    """What each run of the program comes to, one after the other."""

    def __init__(self, directory: Path, *outcomes: tuple[int, str]) -> None:
        self._directory, self.left = directory, [*outcomes]

    def __call__(self, *_: object, **__: object) -> tuple[int, str, Path]:
        code, report = self.left.pop(0)
        kept = self._directory / str(len(self.left)) / "history.jsonl"
        kept.parent.mkdir()
        kept.touch()
        return code, report, kept


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    runs = Runs(tmp_path)
    monkeypatch.setattr(cut, "_run", runs)
    return runs


def test_violation_fails_at_once(outcomes: Runs) -> None:
    outcomes.left = [(1, BAD), (0, GOOD)]
    with pytest.raises(AssertionError, match=BAD):
        cut.run_cut("any")
    assert len(outcomes.left) == 1


def test_run_in_which_the_clock_was_set_is_made_again(outcomes: Runs) -> None:
    outcomes.left = [(VOID, BAD), (0, GOOD)]
    assert cut.run_cut("any") == GOOD


def test_violation_of_the_run_that_is_made_again_fails(outcomes: Runs) -> None:
    outcomes.left = [(VOID, BAD), (1, BAD), (0, GOOD)]
    with pytest.raises(AssertionError, match=BAD):
        cut.run_cut("any")


def test_clock_that_is_set_all_the_time_fails(outcomes: Runs) -> None:
    outcomes.left = [(VOID, BAD)] * cut.CUTS
    with pytest.raises(AssertionError, match=BAD):
        cut.run_cut("any")


def test_only_a_clock_that_was_set_makes_a_run_void() -> None:
    assert not is_void([{"e": "outage", "t": 1.0, "to": 2.0}])
    assert is_void([{"e": "clock set", "t": 1.0, "by": 2.0}])
