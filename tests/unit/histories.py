"""Histories of a chaos run, made by hand: what was called, what ran, who was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.chaos.checker import Findings, check

if TYPE_CHECKING:
    from tests.chaos.history import Event

LEASE, STALE = 2.0, 20.0
JOIN = {"until_start": False, "late": False, "limit": None, "policy": "join"}
KINDS = {
    "early": JOIN,
    "late": {**JOIN, "late": True},
    "limited": {**JOIN, "limit": 2},
    "until_start": {**JOIN, "until_start": True},
    "replace": {**JOIN, "policy": "replace"},
}
SETUP: Event = {"e": "setup", "t": 0.0, "lease": LEASE, "stale": STALE, "kinds": KINDS}
WORKER, CHILD = 10, 11


def call(t: float, task: str, out: str = "triggered", kind: str = "early", **given: Any) -> Event:
    about = {"to": t + 0.01, "kind": kind, "key": f"{kind}:0", "task": task, "witness": "", "delay": 0.0}
    return {"e": "call", "t": t, **about, "out": out, "error": "", **given}


def duplicate(t: float, witness: str, out: str = "unique", kind: str = "early") -> Event:
    return call(t, f"duplicate at {t}", out, kind, witness=witness)


def body(
    task: str,
    start: float,
    end: float | None,
    how: str = "ok",
    *,
    kind: str = "early",
    fence: int | None = None,
    pid: int = CHILD,
    lost: float | None = None,
    **given: Any,
) -> list[Event]:
    about = {
        "key": f"{kind}:0",
        "task": task,
        "fence": int(start * 1000) if fence is None else fence,
        "pid": pid,
    }
    events: list[Event] = [
        {"e": "received", "t": start - 0.02, "task": task, "worker": WORKER},
        {"e": "prerun", "t": given.get("prerun", start - 0.01), "task": task, "pid": pid, "worker": WORKER},
        {
            "e": "start",
            "t": start,
            **about,
            "worker": WORKER,
            "lost": False,
            "retries": 0,
            **given.get("first", {}),
        },
    ]
    if lost is not None:
        told = given.get("told", True)
        events.append({"e": "lost", "t": lost, **about, "last_ok": given.get("last_ok", lost), "told": told})
    if end is not None:
        last_ok = given.get("last_ok", end if lost is None else lost)
        end_of = {
            "how": how,
            "lost": lost is not None,
            "last_ok": last_ok,
            "regained": given.get("regained", False),
        }
        events.append({"e": "end", "t": end, **about, **end_of})
        if how in ("ok", "fail"):
            events.append(state(task, "SUCCESS" if how == "ok" else "FAILURE"))
    return events


def state(task: str, name: str) -> Event:
    return {"e": "state", "t": 900.0, "task": task, "state": name}


def kill(t: float, pid: int | None = None, worker: int = WORKER) -> Event:
    return {"e": "kill", "t": t, "to": t + 0.05, "worker": worker, "pid": pid}


def outage(t: float, to: float) -> Event:
    return {"e": "outage", "t": t, "to": to}


def begun(t: float, task: str, pid: int = CHILD) -> Event:
    """Return a delivery that does not come to its body."""
    return {"e": "prerun", "t": t, "task": task, "pid": pid, "worker": WORKER}


def freeze(t: float, to: float, pid: int | None = None) -> Event:
    return {"e": "freeze", "t": t, "to": to, "worker": WORKER, "pid": pid}


def checked(*parts: Event | list[Event]) -> Findings:
    events = [SETUP]
    for part in parts:
        events += part if isinstance(part, list) else [part]
    return check(events)


def rules(*parts: Event | list[Event]) -> set[str]:
    return {rule for rule, _ in checked(*parts).violations}
