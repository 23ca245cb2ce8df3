"""From the queue to the end: how fast one worker process works off what waits for it."""

from __future__ import annotations

import random
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.agents import AgentError
from benchmarks.figures import Rounds
from benchmarks.measures.counting import Often, counted
from benchmarks.measures.turns import cpu
from benchmarks.results import Found

if TYPE_CHECKING:
    from benchmarks.agents import Agent
    from benchmarks.measures.turns import Scale
    from benchmarks.peers.base import Peer
    from benchmarks.stage import Stage
    from tests.processes import Process

MEASURES = ("worker.plain", "worker.unique")
DONE = "bench.done"
#: Seconds that a worker may take for all.
PATIENCE = 120


def busy(pid: int) -> int:
    """Return for how many nanoseconds a process and its children have run; 0 where the system does not tell."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
            nanoseconds += sum(busy(int(child)) for child in (thread / "children").read_text().split())
    return nanoseconds


class Crew:
    """A worker, the agent that fills its queue, and the list that tells when it is done."""

    def __init__(self, stage: Stage, peer: Peer, agent: Agent, process: Process) -> None:
        self._peer, self._agent, self._process, self._stage = peer, agent, process, stage
        database = int(stage.servers_of(peer).store.rpartition("/")[2])
        self._store: Any = stage.server.client(database)

    def fill(self, measure: str, tasks: int) -> None:
        """Put the tasks into the queue, while the worker can't move."""
        self._process.freeze()
        try:
            self._agent.run(measure, tasks)
        except AgentError:
            self._process.thaw()
            raise

    def work_off(self) -> int:
        """Let the worker go, and return the nanoseconds between the marks that its first and last task leave."""
        self._process.thaw()
        first = self._mark()
        return self._mark() - first

    def _mark(self) -> int:
        deadline = monotonic() + PATIENCE
        while monotonic() < deadline:
            found = self._store.blpop(DONE, timeout=2)
            if found is not None:
                return int(found[1])
            if not self._process.alive:
                msg = f"its worker ended with {self._process.returncode}"
                raise AgentError(msg)
        msg = f"its worker did not finish within {PATIENCE} s"
        raise AgentError(msg)

    def fill_and_work_off(self, measure: str, tasks: int) -> tuple[int, int]:
        """Do both; returns also for how many nanoseconds the worker's processes were busy."""
        self.fill(measure, tasks)
        before = busy(self._process.pid)
        spent = self.work_off()
        return spent, busy(self._process.pid) - before

    def close(self) -> None:
        self._store.close()
        self._stage.flush(self._peer)


def run(stage: Stage, scale: Scale) -> Found:
    """Let the workers take turns: one works, the others have nothing to do.

    They are started anew a few times, for no two processes are equally fast.
    """
    peers = stage.in_group("worker")
    rounds, found = Rounds(), Found()
    starts, each, tasks = scale.of(6, 1), scale.of(4, 2), 200
    for start in range(starts):
        _work(stage, peers, found, rounds, range(start * each, (start + 1) * each), tasks)
    for peer in peers:
        for measure in MEASURES:
            found.take(rounds, measure, peer.name, ("worker.plain", peer.base))
            found.take(rounds, cpu(measure), peer.name, (cpu("worker.plain"), peer.base))
    found.about = {"tasks": tasks, "rounds": starts * each, "starts": starts}
    return found


def _work(stage: Stage, peers: list[Peer], found: Found, rounds: Rounds, numbers: range, tasks: int) -> None:
    """Start the workers, and let them work for these rounds; what they ask of Redis is counted in the first."""
    with stage.agents(peers) as (agents, gaps), ExitStack() as stack:
        found.gaps |= gaps
        crews: dict[str, Crew] = {}
        for peer in peers:
            if peer.name in agents:
                process = stack.enter_context(stage.worker(peer))
                crews[peer.name] = crew = Crew(stage, peer, agents[peer.name], process)
                stack.callback(crew.close)
        turns = [
            (name, measure) for name in crews for measure in MEASURES if measure in agents[name].measures
        ]
        _take_turns(crews, turns, rounds, tasks, numbers)
        if found.facts:
            return
        for name, measure in turns:
            crew = crews[name]
            found.facts.setdefault(measure, {})[name] = counted(
                stage,
                lambda _, crew=crew: crew.work_off(),
                Often(few=50, more=150),
                before=partial(crew.fill, measure),
            )


def _take_turns(
    crews: dict[str, Crew], turns: list[tuple[str, str]], rounds: Rounds, tasks: int, numbers: range
) -> None:
    """Run a few tasks first, then so many in each round; who fails leaves the list."""
    chance = random.Random(numbers.start)  # noqa: S311 - an order
    for at in (-1, *numbers):
        chance.shuffle(turns)
        for name, measure in list(turns):
            try:
                spent, worked = crews[name].fill_and_work_off(measure, 20 if at < 0 else tasks)
            except AgentError as exc:
                rounds.gap(measure, name, str(exc))
                turns.remove((name, measure))
            else:
                if at >= 0:
                    rounds.add(measure, name, at, [spent / tasks])
                    if worked:
                        rounds.add(cpu(measure), name, at, [worked / tasks])
