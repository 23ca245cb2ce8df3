"""A caller of the chaos run: `python -m tests.chaos.producer SEED THREADS`, until it is told to stop (SIGTERM)."""

from __future__ import annotations

import random
import threading
from time import monotonic
from typing import Any

import django

from django_celery_extensions.exceptions import StoreUnavailable, UniqueTaskConflict
from tests.chaos.history import note
from tests.chaos.program import until_told

#: Seconds between two calls of a thread, at least and at most.
PAUSE = (0.02, 0.2)

_told = threading.local()


def planned(kind: Any, chance: random.Random) -> dict[str, Any]:
    plan: dict[str, Any] = {"works": round(chance.uniform(*kind.works), 3), "fails": kind.fails}
    if kind.retries:
        plan["failures"] = chance.randint(0, 3)
    if chance.random() < kind.hangs:
        plan["works"] = 60.0
    return plan


def call(task: Any, kind: str, key: str, plan: dict[str, Any], countdown: float | None = None) -> str:
    """Call once and write down what came of it."""
    error = ""
    _told.own = _told.witness = ""
    began = monotonic()
    try:
        result = task.apply_async((key, plan), countdown=countdown)
        outcome = result.outcome.value
    except UniqueTaskConflict as exc:
        outcome, _told.witness = "raised", exc.task_id
    except StoreUnavailable as exc:
        outcome, error = "unavailable", repr(exc)
    except Exception as exc:
        outcome, error = "error", repr(exc)
    note(
        "call",
        t=began,
        to=monotonic(),
        kind=kind,
        key=key,
        task=_told.own,
        out=outcome,
        witness=_told.witness,
        delay=countdown or 0.0,
        error=error,
    )
    return outcome


def hear_own(result: Any, **_: Any) -> None:
    """Receive the signal of a call; its task id would not be known where the call raises."""
    _told.own = result.id


def hear_witness(task_id: str, **_: Any) -> None:
    """Receive a signal that names the task for which a call was a duplicate."""
    _told.witness = task_id


def produce(seed: int, stop: threading.Event) -> None:
    from tests.chaos import tasks

    chance = random.Random(seed)
    keys = tasks.every_key()
    while not stop.wait(chance.uniform(*PAUSE)):
        key = chance.choice(keys)
        name = key.partition(":")[0]
        kind = tasks.KINDS[name]
        countdown = round(chance.uniform(0.1, kind.countdown), 3) if kind.countdown else None
        call(tasks.TASKS[name], name, key, planned(kind, chance), countdown)


def listen() -> None:
    """Set Django up, and hear what becomes of calls."""
    django.setup()
    from django_celery_extensions import signals

    signals.invocation_applied.connect(hear_own, weak=False)
    signals.invocation_unique.connect(hear_witness, weak=False)
    signals.invocation_ignored.connect(hear_witness, weak=False)


def main() -> None:
    listen()
    until_told(produce)


if __name__ == "__main__":
    main()
