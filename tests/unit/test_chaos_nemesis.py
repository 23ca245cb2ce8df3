"""The nemesis of the chaos runs does the harm that it is asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.chaos.nemesis import Nemesis


class Unlucky(Nemesis):
    """Its lot never falls on anybody who can be killed, and its workers are away for the first `away` attempts."""

    PAUSE = (0.01, 0.02)

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


@pytest.mark.parametrize("away", [0, 6])
def test_missing_kills_are_made_up_for(away: int) -> None:
    nemesis = Unlucky(away)
    nemesis.strike_for(0.6, kills=4)
    assert nemesis.kills >= 4


def test_nemesis_gives_up_where_nobody_can_be_killed() -> None:
    nemesis = Unlucky(away=10_000)
    nemesis.strike_for(0.2, kills=6)
    assert nemesis.kills == 0
    assert nemesis.done["attempts"]
