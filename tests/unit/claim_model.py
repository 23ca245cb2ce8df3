"""The rules of claims and ignore windows in plain Python: what every store must answer.

Time does not pass here: a claim that goes stale, and a window that closes, are steps of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django_celery_extensions.stores.base import Ask, Holding, Unsent, Verdict


@dataclass
class Name:
    """One unique name: who holds it, who opened its window, and who was replaced by whom."""

    claim: tuple[str, str] | None = None
    #: The executions that gave the claim back to the queue, one after the other.
    given_back_by: list[str] = field(default_factory=list)
    window: str | None = None
    replaced: dict[str, str] = field(default_factory=dict)
    #: Who of those was told so at its start.
    told: set[str] = field(default_factory=set)

    def newest(self, task: str) -> str:
        while task in self.replaced:
            task = self.replaced[task]
        return task

    def give_back(self, task: str, token: str) -> None:
        self.claim = (task, "")
        if token and self.given_back_by[-1:] != [token]:
            self.given_back_by.append(token)


class ClaimModel:
    """Claims and windows by name; answers are a verdict and the task that it speaks of.

    A store that is not `atomic` spends no command on forgetting that a task was replaced once, unless that replaces
    another one; it looks at that only where the task has no claim.
    """

    def __init__(self, *, atomic: bool) -> None:
        self.atomic = atomic
        self.names: dict[str, Name] = {}

    def of(self, name: str) -> Name:
        return self.names.setdefault(name, Name())

    def admit(self, ask: Ask) -> tuple[Verdict, str]:
        state = self.of(ask.name)
        if ask.window and state.window is not None:
            return Verdict.WINDOW, state.window
        if ask.claim is None:
            return Verdict.FREE, ""
        before = other = ""
        if state.claim is not None:
            before, token = state.claim
            mine = before == ask.task_id and token in ("", ask.proof)
            if not mine and not (ask.replace and not token):
                return Verdict.HELD, before
            if before != ask.task_id:
                other = before
                state.replaced[other] = ask.task_id
                state.told.discard(other)
        if self.atomic or other:
            state.replaced.pop(ask.task_id, None)
        if other or state.claim is None or not ask.proof:
            state.given_back_by = []
        state.give_back(ask.task_id, ask.proof)
        return Verdict.FREE, before

    def start(self, ask: Ask) -> tuple[Verdict, str]:
        state = self.of(ask.name)
        mine = state.claim in ((ask.task_id, ""), (ask.task_id, ask.token))
        if ask.patient and state.claim == (ask.task_id, "") and state.given_back_by:
            mine = False
        if ask.window and state.window is not None:
            if mine:
                state.claim = None
            return Verdict.WINDOW, state.window
        if ask.claim is None:
            return Verdict.FREE, ""
        if not mine and ask.task_id in state.replaced:
            state.told.add(ask.task_id)
            newest = state.newest(ask.task_id)
            if state.claim is not None and state.claim[0] != ask.task_id:
                return Verdict.HELD, state.claim[0]
            if newest != ask.follows:
                return Verdict.HELD, newest
        if state.claim is not None and not mine:
            return (Verdict.BUSY if state.claim[0] == ask.task_id else Verdict.HELD), state.claim[0]
        before = "" if state.claim is None else ask.task_id
        if state.claim is None:
            state.given_back_by = []
        state.claim = None if ask.until_start else (ask.task_id, ask.token)
        return Verdict.FREE, before

    def settle(self, holding: Holding, *, window: bool, lost: bool) -> bool:
        state = self.of(holding.name)
        mine = state.claim == (holding.task_id, holding.token)
        if lost and state.claim == (holding.task_id, "") and holding.token not in state.given_back_by:
            mine = True
        if mine:
            state.claim = None
        if window:
            state.window = holding.task_id
        return mine

    def withdraw(self, call: Unsent) -> bool:
        state = self.of(call.name)
        may_run = state.replaced.get(call.replaced) == call.task_id and call.replaced not in state.told
        found = state.replaced if self.atomic else {call.replaced}  # the others look for no more
        state.replaced = {
            old: new for old, new in state.replaced.items() if new != call.task_id or old not in found
        }
        if state.claim != (call.task_id, ""):
            return False
        state.claim, state.given_back_by = ((call.replaced, "") if may_run else None), []
        return True

    def requeue(self, holding: Holding) -> bool:
        state = self.of(holding.name)
        queued = state.claim == (holding.task_id, "") and state.given_back_by[-1:] == [holding.token]
        if state.claim != (holding.task_id, holding.token) and not queued:
            return False
        state.give_back(holding.task_id, holding.token)
        return True

    def owns(self, holding: Holding) -> bool:
        return self.of(holding.name).claim == (holding.task_id, holding.token)
