"""No accepted task is lost that Celery would not have lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.model import GRACE

if TYPE_CHECKING:
    from tests.chaos.checker import Findings
    from tests.chaos.lives import Life, Span
    from tests.chaos.model import Story

RULE = "no task is lost that Celery would not have lost"
DROPPED = "only a message whose claim passed on is dropped"


def check_losses(story: Story, findings: Findings) -> None:
    """Every accepted task ends; or was replaced, or dropped for another; or went with the worker that had it."""
    counts = findings.counts
    #: A worker that is killed between taking a message off the broker and noting that takes one with it.
    spare = [kill for kill in story.kills if kill.pid is None]
    for life in story.lives.values():
        if life.finished is not None:
            counts["tasks: finished"] += 1
        elif life.state in ("SUCCESS", "FAILURE"):
            counts["tasks: ended by their worker (lost child, time limit)"] += 1
        elif life.replaced is not None:
            counts["tasks: replaced"] += 1
        elif life.state == "IGNORED":
            counts["tasks: dropped, the claim had passed on"] += 1
            if not _taken_over(story, life):
                findings.wrong(DROPPED, f"{life.key} {life.task}: nobody took its claim")
        elif life.state == "REVOKED" and life.traits["limit"]:
            counts["tasks: expired"] += 1
        else:
            _check_lost(story, life, spare, findings)


def _taken_over(story: Story, life: Life) -> bool:
    last = max(prerun["t"] for prerun in life.preruns) if life.preruns else life.call["to"]
    return any(
        other is not life
        and other.key == life.key
        and any(life.call["t"] <= taken <= last + GRACE for taken in _taken(other))
        for other in story.lives.values()
    ) or any(  # a call that could not know its answer may have got the claim
        call["key"] == life.key and call["out"] == "unavailable" for call in story.calls
    )


def _taken(life: Life) -> list[float]:
    # A claim is made by an accepted call, and again by the start of a message whose claim is gone.
    return [life.call["to"], *(run.start for run in life.runs)]


def _check_lost(story: Story, life: Life, spare: list[Span], findings: Findings) -> None:
    what = f"{life.key} {life.task}: state {life.state}, delivered {len(life.received)} times"
    if not life.traits["late"] and any(
        _harmed(story, event["worker"], event["t"]) for event in (*life.received, *life.preruns)
    ):
        findings.counts["tasks: lost with the worker that had acknowledged them"] += 1
        return
    last = max(
        [
            life.call["t"],
            *(event["t"] for event in (*life.received, *life.preruns)),
            *(run.start for run in life.runs),
        ]
    )
    for kill in spare:
        if kill.to >= last:
            spare.remove(kill)
            findings.counts["tasks: lost by kombu, popped by a worker that was killed"] += 1
            return
    findings.wrong(RULE, what)


def _harmed(story: Story, worker: int, since: float) -> bool:
    return any(kill.worker == worker and kill.to >= since for kill in story.kills)
