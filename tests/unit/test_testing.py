"""The helpers for the tests of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import chain
from django.db import transaction
from django.test import TestCase, TransactionTestCase, override_settings

from django_celery_extensions import locks
from django_celery_extensions.exceptions import NotTriggeredCeleryError
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.testing import (
    capture_invocations,
    capture_tasks,
    forget_claim,
    isolated_claims,
)
from tests.project import locking, tasks

if TYPE_CHECKING:
    from django_celery_extensions.testing import Outbox
    from tests.unit.conftest import Declare

NOWHERE = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/1"}


@pytest.mark.django_db(transaction=True)
def test_invocations_are_captured_in_order_and_tell_how_they_end() -> None:
    with capture_invocations() as calls:
        tasks.add.delay(1, 2)
        with transaction.atomic():
            tasks.silent.delay_on_commit("a")
            assert calls[1].outcome is Outcome.WAITING
    assert [(call.task, call.args) for call in calls] == [
        (tasks.add.name, (1, 2)),
        (tasks.silent.name, ("a",)),
    ]
    assert [call.outcome for call in calls] == [Outcome.TRIGGERED] * 2
    tasks.add.delay(3, 4)
    assert len(calls) == 2, "nothing is captured after the block"


def test_only_the_tasks_that_are_named_are_captured() -> None:
    with capture_invocations(tasks.silent) as calls:
        tasks.add.delay(1, 2)
        tasks.silent.delay("b")
    assert [call.task for call in calls] == [tasks.silent.name]


def test_forgotten_window_lets_the_next_call_run() -> None:
    task = tasks.ignored_by_hand
    task.apply((7,))
    assert task.apply((7,)).state == "IGNORED"
    forget_claim(task, (7,))
    assert task.apply((7,)).state == "SUCCESS"
    forget_claim(task, (7,))


# the outbox


@override_settings(CELERY_TASK_ALWAYS_EAGER=False, **NOWHERE)
def test_nothing_is_sent_and_everything_is_told() -> None:
    with capture_tasks() as outbox:
        result = tasks.add.apply_async((1,), {"right": 2}, countdown=60, queue="slow")
        tasks.silent.delay("a")
    first, second = outbox
    assert (first.task, first.args, first.kwargs) == (tasks.add.name, (1,), {"right": 2})
    assert (first.options["countdown"], first.options["queue"]) == (60, "slow")
    assert first.task_id == result.id
    assert first.result is result
    assert not first.on_commit
    assert repr(outbox) == "[tests.project.tasks.add(1, right=2), tests.project.tasks.silent('a')]"
    assert outbox.of(tasks.silent) == [second]


@pytest.mark.parametrize("eager", [True, False])
def test_messages_run_on_demand_and_tell_their_callers(eager: bool) -> None:
    with override_settings(CELERY_TASK_ALWAYS_EAGER=eager, **NOWHERE), capture_tasks() as outbox:
        result = tasks.add.delay(1, 2)
        assert outbox.run() == [3]
        assert (result.get(), result.state) == (3, "SUCCESS")
        assert outbox.run() == [], "each runs once"


def test_failure_is_raised_and_told(declare: Declare) -> None:
    def body() -> None:
        raise ValueError("mine")

    task = declare(body)
    with capture_tasks() as outbox:
        result = task.delay()
        with pytest.raises(ValueError, match="mine"):
            outbox.run()
    assert result.state == "FAILURE"


def test_claims_are_those_of_the_block() -> None:
    for _ in range(2):
        with capture_tasks() as outbox:
            first = tasks.silent.delay("a")
            second = tasks.silent.delay("a")
            assert (first.outcome, second.outcome) == ("triggered", "unique")
            assert second.id == first.id
            assert tasks.silent.is_processing(("a",))
            assert outbox.run() == ["a"]
            assert not tasks.silent.is_processing(("a",))
            assert tasks.silent.delay("a").outcome == "triggered"


def test_windows_open_when_the_task_is_run(declare: Declare) -> None:
    def body(x: int) -> int:
        return x

    task = declare(body, ignore_task_after_success=True, ignore_task_timedelta=60)
    with capture_tasks() as outbox:
        task.delay(1)
        task.delay(1)
        assert len(outbox) == 2, "no success yet"
        outbox[0].run()
        assert task.delay(1).state == "IGNORED"
        assert len(outbox) == 2


@override_settings(CELERY_TASK_ALWAYS_EAGER=False, **NOWHERE)
def test_chains_and_callbacks_are_sent_into_the_same_outbox() -> None:
    with capture_tasks() as outbox:
        chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100)).delay()
        tasks.add.apply_async((5, 5), link=tasks.silent.s())
        assert [sent.args for sent in outbox] == [(1, 2), (5, 5)]
        outbox.run()
    assert [sent.task.rpartition(".")[2] for sent in outbox] == ["add", "add", "add", "silent", "add"]
    assert outbox[2].result is not None
    assert outbox[2].result.get() == 13
    assert outbox[4].result is not None
    assert outbox[4].result.get() == 113


def test_locks_of_tasks_that_are_run() -> None:
    with capture_tasks() as outbox:
        locking.locking_task.delay("a")
        with locks.lock(locking.locking_task.name):
            assert outbox.run() == ["held"]


@override_settings(DJANGO_CELERY_EXTENSIONS_LOCK_STORE="zookeeper")
def test_locks_need_no_zookeeper_either() -> None:
    with capture_tasks(), locks.lock("n") as lock:
        assert lock


@pytest.mark.parametrize("ask", ["of", "assert_sent", "assert_not_sent"])
def test_outbox_wants_the_task_and_not_its_name(celery_outbox: Outbox, ask: str) -> None:
    with pytest.raises(TypeError, match=r"give the task itself, not 'tests.project.tasks.add'"):
        getattr(celery_outbox, ask)(tasks.add.name)


def test_assertions_say_what_there_is(celery_outbox: Outbox) -> None:
    tasks.add.delay(1, 2)
    assert celery_outbox.assert_sent(tasks.add, 1, right=2).args == (1, 2)
    celery_outbox.assert_not_sent(tasks.silent)
    with pytest.raises(
        AssertionError, match=r"add\(left=2, right=1\) was not sent; sent were: .*add\(1, 2\)"
    ):
        celery_outbox.assert_sent(tasks.add, 2, 1)
    with pytest.raises(AssertionError, match=r"tasks\.add was sent: .*add\(1, 2\)"):
        celery_outbox.assert_not_sent(tasks.add)


def test_blocks_within_each_other() -> None:
    with capture_tasks() as outer:
        with capture_tasks() as inner:
            tasks.add.delay(1, 2)
        tasks.add.delay(3, 4)
    assert [sent.args for sent in inner] == [(1, 2)]
    assert [sent.args for sent in outer] == [(3, 4)]
    assert tasks.add.delay(1, 1).get() == 2, "it runs eagerly again"


def test_eager_runs_with_claims_of_their_own() -> None:
    task = tasks.ignored_by_hand
    for _ in range(2):
        with isolated_claims():
            assert task.apply((8,)).state == "SUCCESS"
            assert task.apply((8,)).state == "IGNORED"


@pytest.mark.usefixtures("celery_claims")
def test_fixture_of_claims() -> None:
    assert tasks.ignored_by_hand.apply((8,)).state == "SUCCESS"


def test_retries_of_a_message_that_is_run_follow_at_once(declare: Declare) -> None:
    """As Celery's apply() does it."""

    def body(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=60)
        return int(self.request.retries)

    task = declare(body, bind=True, unique=True)
    with capture_tasks() as outbox:
        task.delay()
        assert outbox.run() == [2]
        assert not task.is_processing()


class InATestCase(TestCase):
    def test_on_commit(self) -> None:
        with capture_tasks() as outbox:
            with self.captureOnCommitCallbacks(execute=True):
                result = tasks.silent.delay_on_commit("a")
                assert outbox == []
                with pytest.raises(NotTriggeredCeleryError):
                    result.get()
            assert outbox.assert_sent(tasks.silent, "a").on_commit
            outbox.run()
            assert result.get() == "a"


class InATransactionTestCase(TransactionTestCase):
    def test_on_commit_and_rollback(self) -> None:
        with capture_tasks() as outbox:
            with transaction.atomic():
                tasks.silent.delay_on_commit("a")
                tasks.add.delay_many_on_commit([(1, 2), (3, 4)])
                assert outbox == []
            assert [sent.on_commit for sent in outbox] == [True] * 3
            self.roll_back()
            assert len(outbox) == 3
            many: list[Any] = tasks.add.delay_many([(5, 6)])
            assert not many[0].on_commit

    def roll_back(self) -> None:
        with transaction.atomic():
            tasks.silent.delay_on_commit("b")
            transaction.set_rollback(True)
