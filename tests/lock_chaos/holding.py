"""What every holder does, in a client or in a task: ask, hold, look at its lease all the time, write it all down."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery.exceptions import MaxRetriesExceededError, Retry

from django_celery_extensions.exceptions import LeaseLost, StoreUnavailable
from tests.chaos.history import note
from tests.lock_chaos.register import BARE, increment

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.lock_chaos.targets import Target

#: Seconds between two looks of a holder at its lease.
LOOK = 0.02
#: Seconds that a holding lasts: most are short, some longer than a lease.
SHORT, LONG, LONG_SHARE = (0.02, 0.5), (2.5, 4.0), 0.06
#: Seconds between reading and writing a register: sometimes long enough to be frozen in between.
GAP, LONG_GAP, LONG_GAP_SHARE = (0.005, 0.06), (0.5, 2.5), 0.12


def planned(chance: random.Random) -> dict[str, Any]:
    """Draw what a holder does."""
    return {
        "works": round(chance.uniform(*(LONG if chance.random() < LONG_SHARE else SHORT)), 3),
        "gap": round(chance.uniform(*(LONG_GAP if chance.random() < LONG_GAP_SHARE else GAP)), 3),
        "bare": chance.random() < 0.5,
    }


def waiting(chance: random.Random) -> dict[str, Any]:
    """Draw how somebody waits: not at all, for a while, or for as long as it takes."""
    drawn = chance.random()
    if drawn < 0.3:
        return {}
    if drawn < 0.65:
        return {"blocking": True, "timeout": round(chance.uniform(0.1, 6), 2)}
    return {"blocking": True}


_asking = threading.local()


def observe() -> None:
    """Write down, in this process, who has a place in the queue: when it first waits, after it was told to."""
    from django_celery_extensions.stores import lease_store

    store_class: Any = type(lease_store())
    plain = store_class.wait

    def wait(self: Any, ask: Any, at_most: float) -> None:
        call, _asking.call = getattr(_asking, "call", None), None
        if call is not None:
            note("queued", call=call)
        plain(self, ask, at_most)

    store_class.wait = wait


class _Watch:
    """Looks at a lease, and writes down when it is lost."""

    def __init__(self, lease: Any, about: dict[str, Any]) -> None:
        self._lease, self._about = lease, about
        self.seen = monotonic()
        self.lost, self.regained = bool(lease.lost), False
        note("took", t=self.seen, **about, fence=lease.fence, lost=self.lost)

    def look(self) -> None:
        now = monotonic()
        lost = self._lease.lost
        if self.lost:
            self.regained = self.regained or not lost
        elif lost:
            self.lost = True
            note("lost", call=self._about["call"], last_ok=self.seen, told=self._told())
        else:
            self.seen = now

    def work(self, duration: float) -> None:
        ends = monotonic() + duration
        while True:
            self.look()
            if monotonic() >= ends:
                return
            time.sleep(LOOK)

    def _told(self) -> bool:
        try:
            self._lease.ensure()
        except LeaseLost:
            return True
        return False


def describe(target: Target, worker: int) -> dict[str, Any]:
    """Return how a history names one attempt of this process; ``worker`` is the process that dies and freezes with it."""
    return {"name": target.label, "call": uuid4().hex[:12], "pid": os.getpid(), "worker": worker}


def hold(lease: Any, about: dict[str, Any], plan: dict[str, Any], most: int) -> None:
    """Hold a lease for a while; who is alone with it increments the register of that name."""
    watch = _Watch(lease, about)
    how = "exit"
    try:
        if most == 1 and not increment(
            about["name"], about["call"], lease.fence, lambda: watch.work(plan["gap"])
        ):
            watch.look()
            if not watch.lost:
                note("refused while trusted", **about, fence=lease.fence)
        watch.work(plan["works"])
        how = "ok"
    finally:
        note(
            "gave", call=about["call"], how=how, lost=watch.lost, last_ok=watch.seen, regained=watch.regained
        )


@contextmanager
def _called(about: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as exc:
        note("failed", call=about["call"], unavailable=True, error=repr(exc))
    except (Retry, MaxRetriesExceededError):  # not free: it comes again, or was refused often enough
        note("none", call=about["call"])
        raise
    except Exception as exc:
        note("failed", call=about["call"], unavailable=False, error=repr(exc))


def attempt(
    target: Target,
    worker: int,
    held: Callable[..., AbstractContextManager[Any]],
    plan: dict[str, Any],
    **options: Any,
) -> None:
    """Ask for a target once, hold it if it is given, and write down what came of it."""
    about = describe(target, worker)
    note("want", **about, blocking=options.get("blocking", False), timeout=options.get("timeout"))
    _asking.call = about["call"]
    with _called(about), held(**options) as lease:
        if lease:
            hold(lease, about, plan, target.most)
        else:
            note("none", call=about["call"])
    if plan["bare"]:
        increment(BARE, about["call"], None, lambda: time.sleep(plan["gap"]))
