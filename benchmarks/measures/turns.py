"""Taking turns: blocks of all peers in a new order each round, so that what else the machine does falls on all."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.agents import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.agents import Agent
    from benchmarks.figures import Rounds
    from benchmarks.stage import Stage

#: Seconds of a call that makes a block of them too long: it is made once, and not in every round.
SLOW = 0.1


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    quick: bool = False
    #: Calls of one block, for the measures of a call; None: so few that all peers see the same machine.
    block: int | None = None

    def of(self, full: int, quick: int) -> int:
        """Return the one or the other."""
        return quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A block: so many calls of one measure of one peer."""

    peer: str
    measure: str
    calls: int
    #: It is done in every so many rounds.
    every: int = 1


def cpu(measure: str) -> str:
    """Return the name of what the caller's processor did for a measure."""
    return f"{measure} cpu"


def turns_of(
    agents: Mapping[str, Agent], measures: Iterable[str], calls: int, *, every: int = 1
) -> list[Turn]:
    """Return a turn for each of these measures that an agent knows."""
    wanted = list(measures)
    return [
        Turn(peer=name, measure=measure, calls=calls, every=every)
        for name, agent in agents.items()
        for measure in wanted
        if measure in agent.measures
    ]


class Turns:
    """Runs blocks, and notes what came of them."""

    def __init__(self, stage: Stage, agents: Mapping[str, Agent], found: Rounds) -> None:
        self._stage, self._agents, self._found = stage, agents, found
        self._peers = {peer.name: peer for peer in stage.peers}
        self._chance = random.Random(1)  # noqa: S311 - an order, no secrets

    def warm_up(self, turns: Sequence[Turn], calls: int) -> list[Turn]:
        """Let each connect and load what it loads; returns those that can, with fewer calls where they are slow."""
        ready = []
        for turn in turns:
            # The first calls connect, and compile what is imported. What is slow once more is slow by itself.
            few = replace(turn, calls=min(3, turn.calls))
            spent = self._block(few)
            if spent is not None:
                spent = self._block(few if median(spent) > SLOW * 1e9 else replace(turn, calls=calls))
            if spent is not None:
                ready.append(turn if median(spent) <= SLOW * 1e9 else replace(turn, calls=1, every=8))
        return ready

    def rounds(self, turns: Sequence[Turn], numbers: Iterable[int]) -> None:
        """Run them all once in each round, in an order by chance."""
        order = list(turns)
        for number in numbers:
            self._chance.shuffle(order)
            for turn in list(order):
                if number % turn.every:
                    continue
                spent = self._block(turn)
                if spent is None:
                    order.remove(turn)
                else:
                    self._found.add(turn.measure, turn.peer, number, spent)
                    self._found.add(
                        cpu(turn.measure), turn.peer, number, [self._agents[turn.peer].cpu / turn.calls]
                    )

    def _block(self, turn: Turn) -> Any:
        try:
            return self._agents[turn.peer].run(turn.measure, turn.calls)
        except AgentError as exc:
            self._found.gap(turn.measure, turn.peer, str(exc))
            return None
        finally:
            self._stage.flush(self._peers[turn.peer])
