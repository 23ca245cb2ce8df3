"""Stores in races of threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.stores.base import Answer, Ask, Verdict
from tests.unit.stores import DATABASES

if TYPE_CHECKING:
    from tests.unit.stores import Backend

FREE, HELD = Verdict.FREE, Verdict.HELD
#: How often a race is run, where it takes its time.
ROUNDS = {"sqlite": 4, "postgresql": 5}


def ask(task_id: str = "A", token: str = "", **given: Any) -> Ask:
    return Ask(**{"name": "n", "task_id": task_id, "token": token, "claim": 60.0, **given})


@pytest.mark.parametrize("step", ["admit", "start", "replace"])
def test_one_of_many_threads_gets_the_claim(
    backend: Backend, step: str, request: pytest.FixtureRequest
) -> None:
    for number in range(ROUNDS.get(backend.name, 25)):
        answers = race(backend, step, f"race-{number}")
        free = [answer for answer in answers.values() if answer.verdict is FREE]
        holding = backend.store.holding(f"race-{number}")
        assert holding is not None
        if step == "replace":
            assert answers[holding.task_id] in free
            if backend.store.atomic or backend.name in DATABASES:
                assert answers[holding.task_id].fence == max(answer.fence for answer in free)
            continue
        assert len(free) == 1
        assert answers[holding.task_id] is free[0]
        for answer in answers.values():
            assert answer is free[0] or answer == Answer(verdict=HELD, task_id=holding.task_id)


def test_one_of_many_threads_gets_a_claim_that_has_ended_by_itself(backend: Backend) -> None:
    """Naive: whoever finds it ended writes its own, or deletes what another has just written."""
    rounds = ROUNDS.get(backend.name, 10)
    for number in range(rounds):
        backend.store.start(ask("dead", "t", name=f"race-{number}", claim=backend.shortest))
    backend.let_end()
    for number in range(rounds):
        answers = race(backend, "admit", f"race-{number}")
        assert [answer.verdict for answer in answers.values()].count(FREE) == 1


def race(backend: Backend, step: str, name: str, runners: int = 16) -> dict[str, Answer]:
    """Let many threads claim one name at once; return the answers by task id."""
    gun = threading.Barrier(runners)
    answers: dict[str, Answer] = {}
    errors: list[BaseException] = []

    def run(task_id: str) -> None:
        try:
            with backend.of_this_thread() as store:
                gun.wait(10)
                if step == "start":
                    answers[task_id] = store.start(ask(task_id, f"token-{task_id}", name=name))
                else:
                    answers[task_id] = store.admit(ask(task_id, name=name, replace=step == "replace"))
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors
    return answers
