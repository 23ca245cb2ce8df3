"""The nemesis of the chaos runs does the harm that it is asked for."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import nemesis as module
from tests.chaos.nemesis import Nemesis


class Unlucky(Nemesis):
    """Its lot never falls on anybody who can be killed, and its workers are away for the first `away` attempts."""

    def __init__(self, away: int) -> None:
        store: Any = None
        super().__init__(random.Random(1), store, {}, workers=0, lease=1)
        self.away = away

    def strike(self) -> None:
        self.done["strikes"] += 1

    def kill_some(self) -> None:
        self.done["attempts"] += 1
        if self.done["attempts"] > self.away:
            self.done["workers killed"] += 1


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on where somebody sleeps."""
    clock = SimpleNamespace(now=1000.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    return clock


@pytest.mark.parametrize("away", [0, 10, 20])
def test_missing_kills_are_made_up_for(clock: SimpleNamespace, away: int) -> None:
    nemesis = Unlucky(away)
    nemesis.strike_for(25, kills=4)
    assert nemesis.kills >= 4
    assert 1025 <= clock.now < 1051


def test_nemesis_gives_up_where_nobody_can_be_killed(clock: SimpleNamespace) -> None:
    nemesis = Unlucky(away=10_000)
    nemesis.strike_for(25, kills=4)
    assert nemesis.kills == 0
    assert nemesis.done["attempts"] > 10
    assert 1050 <= clock.now < 1053
