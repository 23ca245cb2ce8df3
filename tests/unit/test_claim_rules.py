"""Any order of steps, on every store, against the rules in plain Python (`claim_model`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as Limits  # noqa: N812 - `settings` are Django's here
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_celery_extensions import keys
from django_celery_extensions.config import settings as our_settings
from django_celery_extensions.stores.base import Answer, Ask, Holding, Unsent, Verdict
from tests.unit.claim_model import ClaimModel
from tests.unit.stores import opened

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.stores import Backend

LASTS = 60.0
NAMES = st.sampled_from(("n", "m"))
TASKS = st.sampled_from(("A", "B", "C"))
TOKENS = st.sampled_from(("t", "u"))
MAYBE_TOKENS = st.sampled_from(("", "t", "u"))
RARELY = st.sampled_from((False, False, True))
CLAIMS = st.sampled_from((LASTS, LASTS, LASTS, LASTS, None))

#: The stores, and how many runs of how many steps each gets: a step costs 0.1 ms here and 2 ms there.
STORES = {
    "django-redis": (120, 40),
    "fakeredis": (40, 40),
    "memcached": (60, 40),
    "sqlite": (30, 30),
    "postgresql": (15, 30),
    "locmem": (80, 40),
}


class Claims(RuleBasedStateMachine):
    """Tasks A, B and C, with the executions t and u, and two names."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.store = self.backend.store
        self.model = ClaimModel(atomic=self.store.atomic)
        self.fences = {name: [0] for name in ("n", "m")}
        for name in ("n", "m"):
            self.store.forget(name)
            self.backend.cache.delete(keys.replaced_key(name))
            for task in ("A", "B", "C"):
                self.backend.cache.delete(f"{keys.replaced_key(name)}:{task}")

    def _answered(self, ask: Ask, answer: Answer, expected: tuple[Verdict, str]) -> None:
        assert (answer.verdict, answer.task_id) == expected
        if answer.verdict is Verdict.FREE and ask.claim is not None:
            assert answer.fence > self.fences[ask.name][-1]
            self.fences[ask.name].append(answer.fence)
        else:
            assert answer.fence == 0

    @rule(
        name=NAMES, task=TASKS, claim=CLAIMS, window=RARELY, replace_=RARELY, proof=MAYBE_TOKENS, again=RARELY
    )
    def admit(
        self, name: str, task: str, claim: float | None, window: bool, replace_: bool, proof: str, again: bool
    ) -> None:
        ask = Ask(name=name, task_id=task, claim=claim, window=window, replace=replace_, proof=proof)
        for _ in range(1 + again):
            self._answered(ask, self.store.admit(ask), self.model.admit(ask))

    @rule(
        name=NAMES,
        task=TASKS,
        token=TOKENS,
        claim=CLAIMS,
        window=RARELY,
        until_start=RARELY,
        patient=RARELY,
        follows=st.sampled_from(("", "", "A", "B", "C")),
        again=RARELY,
    )
    def start(
        self,
        name: str,
        task: str,
        token: str,
        claim: float | None,
        window: bool,
        until_start: bool,
        patient: bool,
        again: bool,
        follows: str = "",
    ) -> None:
        ask = Ask(
            name=name,
            task_id=task,
            token=token,
            claim=claim,
            window=window,
            until_start=until_start,
            patient=patient,
            follows=follows,
        )
        for _ in range(1 + again):
            self._answered(ask, self.store.start(ask), self.model.start(ask))

    @rule(name=NAMES, task=TASKS, token=MAYBE_TOKENS, window=RARELY, lost=RARELY, again=RARELY)
    def settle(self, name: str, task: str, token: str, window: bool, lost: bool, again: bool) -> None:
        holding = Holding(name=name, task_id=task, token=token)
        lasts = LASTS if window else None
        for _ in range(1 + again):
            expected = self.model.settle(holding, window=window, lost=lost)
            assert self.store.settle(holding, lasts, lost=lost) is expected

    @rule(name=NAMES, task=TASKS, replaced=st.sampled_from(("", "A", "B", "C")), again=RARELY)
    def withdraw(self, name: str, task: str, replaced: str, again: bool) -> None:
        call = Unsent(name=name, task_id=task, replaced=replaced, stale=LASTS)
        claim = self.model.of(name).claim
        for _ in range(1 + again):
            expected = self.model.withdraw(call)
            assert self.store.withdraw_many([call]) == [expected]
            if self.model.of(name).claim not in (claim, None):  # handed back, as a claim of its own
                self.fences[name].append(self._shown(name).fence)
                assert self.fences[name][-1] > self.fences[name][-2]
                claim = self.model.of(name).claim

    @rule(
        holdings=st.lists(st.builds(Holding, name=NAMES, task_id=TASKS, token=MAYBE_TOKENS), max_size=4),
        again=RARELY,
    )
    def renew(self, holdings: list[Holding], again: bool) -> None:
        expected = [self.model.owns(holding) for holding in holdings]
        for _ in range(1 + again):
            assert self.store.renew([(holding, LASTS) for holding in holdings]) == expected

    @rule(name=NAMES, task=TASKS, token=TOKENS, again=RARELY)
    def requeue(self, name: str, task: str, token: str, again: bool) -> None:
        holding = Holding(name=name, task_id=task, token=token)
        for _ in range(1 + again):
            assert self.store.requeue(holding, LASTS) is self.model.requeue(holding)

    def _shown(self, name: str) -> Holding:
        holding = self.store.holding(name)
        assert holding is not None
        return holding

    @precondition(lambda self: any(state.claim for state in self.model.names.values()))
    @rule(
        data=st.data(),
        way=st.sampled_from(("start", "settle", "renew", "admit", "requeue", "lose", "replace", "unsend")),
    )
    def owner(self, data: st.DataObject, way: str) -> None:
        """What happens to a claim that is held; drawn at random, that would be rare."""
        name = data.draw(st.sampled_from([name for name, state in self.model.names.items() if state.claim]))
        task, token = self.model.of(name).claim or ("", "")
        if way == "start":
            self.start(
                name, task, token or "t", LASTS, window=False, until_start=False, patient=False, again=False
            )
        elif way == "renew":
            self.renew([Holding(name=name, task_id=task, token=token)], again=False)
        elif way == "requeue":
            self.requeue(name, task, token or data.draw(TOKENS), again=False)
        elif way == "admit":
            self.admit(name, task, LASTS, window=False, replace_=False, proof=token, again=False)
        elif way == "replace":
            newer = data.draw(TASKS)
            self.admit(name, newer, LASTS, window=False, replace_=True, proof="", again=False)
        elif way == "lose":
            token = token or data.draw(TOKENS)
            self.settle(name, task, token, window=False, lost=True, again=False)
        elif way == "unsend":
            replaced = data.draw(st.sampled_from(["", *self.model.of(name).replaced]))
            self.withdraw(name, task, replaced, again=False)
        else:
            self.settle(name, task, token, window=False, lost=False, again=False)

    @precondition(lambda self: any(state.replaced for state in self.model.names.values()))
    @rule(data=st.data(), token=TOKENS)
    def replaced_one_starts(self, data: st.DataObject, token: str) -> None:
        name = data.draw(
            st.sampled_from([name for name, state in self.model.names.items() if state.replaced])
        )
        task = data.draw(st.sampled_from(sorted(self.model.of(name).replaced)))
        follows = data.draw(st.sampled_from(["", self.model.of(name).newest(task)]))
        self.start(name, task, token, LASTS, False, False, False, False, follows)

    @rule(name=NAMES, task=TASKS)
    def open_window(self, name: str, task: str) -> None:
        self.store.open_window(name, task, LASTS)
        self.model.of(name).window = task

    @rule(name=NAMES)
    def claim_goes_stale(self, name: str) -> None:
        self.backend.cache.delete(keys.claim_key(name))
        self.model.of(name).claim = None

    @rule(name=NAMES)
    def window_closes(self, name: str) -> None:
        self.backend.cache.delete(keys.window_key(our_settings.IGNORE_TASK_KEY_PREFIX, name))
        self.model.of(name).window = None

    @invariant()
    def store_shows_what_the_rules_say(self) -> None:
        for name, state in self.model.names.items():
            holding = self.store.holding(name)
            shown = None if holding is None else (holding.task_id, holding.token)
            assert shown == state.claim
            if holding is not None:
                assert holding.fence == self.fences[name][-1]


@pytest.mark.parametrize("name", STORES)
def test_store_keeps_the_rules(name: str, request: pytest.FixtureRequest, settings: SettingsWrapper) -> None:
    runs, steps = STORES[name]
    with opened(name, request, settings) as backend:
        run_state_machine_as_test(
            type("ClaimsOfOneStore", (Claims,), {"backend": backend}),
            settings=Limits(
                max_examples=runs,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=[*HealthCheck],
            ),
        )
