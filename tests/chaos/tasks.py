"""The tasks of the chaos run, one for each kind of unique task, and what they write down."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from time import monotonic
from typing import Any

from celery.signals import task_prerun, task_received

from django_celery_extensions.exceptions import LeaseLost
from tests.chaos.history import note
from tests.project.celery import app

#: Seconds a claim may last while its task is queued.
STALE = 20.0
#: Seconds between two looks of a body at its claim.
LOOK = 0.02
LATE: dict[str, Any] = {"acks_late": True, "reject_on_worker_lost": True}
DELAYS = (0.1, 0.3, 0.6)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of unique task: its options, how many keys it has, and what its bodies do."""

    options: dict[str, Any]
    keys: int = 2
    #: Seconds that a body works, at least and at most.
    works: tuple[float, float] = (0.05, 0.8)
    retries: bool = False
    fails: bool = False
    #: Share of the bodies that would work for a minute.
    hangs: float = 0.0
    #: Longest countdown of a call, in seconds.
    countdown: float = 0.0

    @property
    def traits(self) -> dict[str, Any]:
        """What the checker has to know about the kind."""
        return {
            "until_start": self.options.get("unique_until") == "start",
            "late": bool(self.options.get("acks_late")),
            "limit": self.options.get("time_limit"),
            "policy": self.options.get("unique_on_conflict", "join"),
        }


KINDS = {
    "early": Kind(options={}, keys=3),
    "long": Kind(options={}, works=(2.2, 4.0)),
    "late": Kind(options=LATE, keys=3),
    "late_long": Kind(options=LATE, works=(2.2, 5.5)),
    "retried": Kind(options={"default_retry_delays": DELAYS}, works=(0.05, 0.3), retries=True),
    "late_retried": Kind(options={**LATE, "default_retry_delays": DELAYS}, works=(0.05, 0.3), retries=True),
    "failing": Kind(options={}, fails=True),
    "limited": Kind(options={"time_limit": 2}, hangs=0.3),
    "until_start": Kind(options={"unique_until": "start"}),
    "skip": Kind(options={"unique_on_conflict": "skip"}),
    "raise": Kind(options={"unique_on_conflict": "raise"}),
    "replace": Kind(options={"unique_on_conflict": "replace"}, countdown=1.0),
}


def every_key() -> list[str]:
    return [f"{kind}:{number}" for kind, traits in KINDS.items() for number in range(traits.keys)]


def work(task: Any, key: str, plan: dict[str, Any]) -> str:
    """Work for a while, looking at the claim all the time."""
    claim = None if task.policy.until_start else task.claim
    about = {"key": key, "task": task.request.id, "fence": claim.fence if claim else 0, "pid": os.getpid()}
    began = seen = monotonic()
    lost = bool(claim and claim.lost)
    note("start", **about, t=began, lost=lost, worker=os.getppid(), retries=task.request.retries)
    how, regained = "exit", False
    try:
        while True:
            now = monotonic()
            if claim is not None:
                if lost:
                    regained = regained or not claim.lost
                elif claim.lost:
                    lost = True
                    note("lost", **about, last_ok=seen, told=_told(claim))
                else:
                    seen = now
            if now >= began + plan["works"]:
                break
            time.sleep(LOOK)
        how = "ok"
        if task.request.retries < plan.get("failures", 0):
            how = "retry"
            note("end", **about, how=how, lost=lost, last_ok=seen, regained=regained)
            raise task.retry()
        if plan.get("fails"):
            how = "fail"
            raise ValueError(key)
        return key
    finally:
        if how != "retry":
            note("end", **about, how=how, lost=lost, last_ok=seen, regained=regained)


def _told(claim: Any) -> bool:
    try:
        claim.ensure()
    except LeaseLost:
        return True
    return False


def _declare(kind: str, options: dict[str, Any]) -> Any:
    def body(self: Any, key: str, plan: dict[str, Any]) -> str:
        return work(self, key, plan)

    return app.task(
        body,
        bind=True,
        unique=True,
        unique_keys=("key",),
        stale_time_limit=STALE,
        name=f"chaos.{kind}",
        lazy=False,
        **options,
    )


TASKS = {kind: _declare(kind, traits.options) for kind, traits in KINDS.items()}


@task_received.connect
def _received(request: Any, **_: Any) -> None:
    note("received", task=request.id, worker=os.getpid())


@task_prerun.connect
def _prerun(task_id: str, **_: Any) -> None:
    note("prerun", task=task_id, pid=os.getpid(), worker=os.getppid())
