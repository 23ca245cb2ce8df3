"""The rules of claims and ignore windows in plain Python: what every store must answer.

Time does not pass here: a claim that goes stale, and a window that closes, are steps of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django_celery_extensions.stores.base import Ask, Holding, Verdict


@dataclass
class Name:
    """One unique name: who holds it, who opened its window, and who was replaced by whom."""

    claim: tuple[str, str] | None = None
    #: The executions that gave the claim back to the queue, one after the other.
    given_back_by: list[str] = field(default_factory=list)
    window: str | None = None
    replaced: dict[str, str] = field(default_factory=dict)

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
        before = ""
        if state.claim is not None:
            task, token = state.claim
            mine = task == ask.task_id and token in ("", ask.proof)
            if not mine and not (ask.replace and not token):
                return Verdict.HELD, task
            if task != ask.task_id:
                before = task
                state.replaced[task] = ask.task_id
        if self.atomic or before:
            state.replaced.pop(ask.task_id, None)
        if before or state.claim is None or not ask.proof:
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
            return Verdict.HELD, state.replaced[ask.task_id]
        if state.claim is not None and not mine:
            return (Verdict.BUSY if state.claim[0] == ask.task_id else Verdict.HELD), state.claim[0]
        before = "" if state.claim is None else ask.task_id
        if state.claim is None:
            state.given_back_by = []
        state.claim = None if ask.until_start else (ask.task_id, ask.token)
        return Verdict.FREE, before

    def settle(self, holding: Holding, *, window: bool, unsent: bool, lost: bool) -> bool:
        state = self.of(holding.name)
        mine = state.claim == (holding.task_id, holding.token)
        if lost and state.claim == (holding.task_id, "") and holding.token not in state.given_back_by:
            mine = True
        if mine:
            state.claim = None
        if window:
            state.window = holding.task_id
        if unsent:
            state.replaced = {old: new for old, new in state.replaced.items() if new != holding.task_id}
        return mine

    def requeue(self, holding: Holding) -> bool:
        state = self.of(holding.name)
        queued = state.claim == (holding.task_id, "") and state.given_back_by[-1:] == [holding.token]
        if state.claim != (holding.task_id, holding.token) and not queued:
            return False
        state.give_back(holding.task_id, holding.token)
        return True

    def owns(self, holding: Holding) -> bool:
        return self.of(holding.name).claim == (holding.task_id, holding.token)
