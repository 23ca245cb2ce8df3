"""Results of invocations that went, or will go, to a real broker; no worker takes the messages."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import vine
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, EagerResult, result_from_tuple
from django.db import transaction

from django_celery_extensions import results
from django_celery_extensions.exceptions import (
    NotTriggeredCeleryError,
    ResultBackendMissing,
    ResultMissing,
)
from django_celery_extensions.invocation import Outcome
from django_celery_extensions.testing import forget_claim
from tests.project import tasks
from tests.unit.conftest import end

if TYPE_CHECKING:
    from tests.live import Live
    from tests.unit.conftest import Queue

pytestmark = pytest.mark.django_db(transaction=True)


def test_result_is_freed_with_its_last_reference(live_app: Live) -> None:
    """A result in a cycle would keep its subscription at the result backend until the collector comes by."""
    # It has the server load the script. The error that says it must is in a cycle with redis-py 4.
    tasks.silent.delay("first")
    gc.disable()
    try:
        for task in (tasks.add, tasks.silent):
            result = task.apply_async((1, 2) if task is tasks.add else (1,))
            gone = weakref.ref(result)
            del result
            assert gone() is None
    finally:
        gc.enable()


def test_id_is_there_before_the_commit_and_stays(queue: Queue) -> None:
    with transaction.atomic():
        plain, unique = tasks.add.delay_on_commit(1, 2), tasks.silent.delay_on_commit("a")
        ids = [plain.id, unique.id]
        assert all(ids)
        assert queue.ids() == []
    assert queue.ids() == ids == [plain.id, unique.id]


def test_result_waits_for_the_commit(queue: Queue) -> None:
    with transaction.atomic():
        for result in (tasks.add.delay_on_commit(1, 2), tasks.silent.delay_on_commit("a")):
            assert isinstance(result, AsyncResult)
            assert result.state == result.status == "WAITING"
            assert (result.ready(), result.successful(), result.failed()) == (False, False, False)
            assert result.outcome is Outcome.WAITING
            assert not result.children
            assert result.result is None
            for get in (result.get, result.wait):
                with pytest.raises(NotTriggeredCeleryError, match=f"{result.id}.*commit"):
                    get(timeout=0.1)
    assert result.state == "PENDING"
    assert result.outcome is Outcome.TRIGGERED
    end(result, "done")
    assert (result.get(timeout=5), result.state, result.successful()) == ("done", "SUCCESS", True)


def test_asking_before_the_commit_does_not_settle_the_answer(queue: Queue) -> None:
    with transaction.atomic():
        result = tasks.silent.delay_on_commit("a")
        asked = [result.state, result.info, result.traceback, result.args, result.date_done]
    assert asked[0] == "WAITING"
    end(result, "done")
    assert (result.state, result.result) == ("SUCCESS", "done")


def test_rolled_back_result_waits_for_good(queue: Queue) -> None:
    with transaction.atomic():
        result = tasks.silent.delay_on_commit("a")
        transaction.set_rollback(True)
    assert result.state == "WAITING"
    with pytest.raises(NotTriggeredCeleryError):
        result.get(timeout=0.1)
    assert not result.ready()
    result.forget()
    assert result.state == "WAITING"
    assert queue.ids() == []


def test_joined_result_is_that_of_the_active_task(queue: Queue) -> None:
    first = tasks.silent.delay("a")
    second = tasks.silent.delay("a")
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    assert second == first
    assert second.state == "PENDING"
    assert second.invocation_id != first.invocation_id
    end(first, "done")
    assert second.get(timeout=5) == first.get(timeout=5) == "done"
    assert second.successful()
    assert queue.ids() == [first.id]


def test_joined_result_raises_what_the_active_task_raised(queue: Queue) -> None:
    first, second = tasks.silent.delay("a"), tasks.silent.delay("a")
    end(first, ValueError("broken"), "FAILURE")
    with pytest.raises(ValueError, match="broken"):
        second.get(timeout=5)
    assert second.failed()
    assert isinstance(second.get(propagate=False), ValueError)


def test_dropping_a_joined_result_takes_nothing_from_the_first(queue: Queue) -> None:
    first = tasks.silent.delay("a")
    second = tasks.silent.delay("a")
    del second
    end(first, "done")
    assert first.get(timeout=5) == "done"


def test_joined_result_of_a_task_that_ignores_its_result_is_there_at_once(queue: Queue) -> None:
    results = [tasks.silent.apply_async(("a",), ignore_result=True) for _ in range(2)]
    assert results[1].outcome is Outcome.UNIQUE
    assert [result.get(timeout=1) for result in results] == [None, None]


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joined looks for the claim of the active task every tenth of a second."""
    monkeypatch.setattr("django_celery_extensions.results.LOOK_SECONDS", 0.1)


def test_who_joined_does_not_wait_for_a_task_that_is_over(queue: Queue, looks_often: None) -> None:
    first = tasks.silent.apply_async(("a",), ignore_result=True)
    second = tasks.silent.delay("a")
    with pytest.raises(CeleryTimeoutError):
        second.get(timeout=0.5)
    forget_claim(tasks.silent, args=("a",))
    with pytest.raises(ResultMissing, match=f"task {first.id}, which this call joined, is over"):
        second.get()


def test_who_joined_gets_a_result_that_comes_after_the_claim_has_ended(
    queue: Queue, looks_often: None
) -> None:
    first, second = tasks.silent.delay("a"), tasks.silent.delay("a")
    forget_claim(tasks.silent, args=("a",))
    timer = threading.Timer(0.15, end, (first, "done"))
    timer.start()
    assert second.get(timeout=5) == "done"
    timer.join()


def test_who_joined_waits_on_where_the_claim_ends_at_the_start(queue: Queue, looks_often: None) -> None:
    tasks.until_start.delay("a")
    second = tasks.until_start.delay("a")
    assert second.outcome is Outcome.UNIQUE
    forget_claim(tasks.until_start, args=("a",))
    with pytest.raises(CeleryTimeoutError):
        second.get(timeout=0.5)


@pytest.mark.parametrize("task", [tasks.add, tasks.silent])
def test_waiting_for_a_result_that_is_not_kept_is_refused(queue: Queue, task: Any) -> None:
    args = (1, 2) if task is tasks.add else (1,)
    with pytest.raises(ResultBackendMissing, match=r"apply_async_and_get_result\(\).*ignore_result"):
        task.apply_async_and_get_result(args, ignore_result=True)
    assert queue.ids() == []


def test_ignored_result_is_ready_with_nothing(ignored: Any, queue: Queue) -> None:
    result = ignored.delay()
    assert isinstance(result, AsyncResult)
    assert not isinstance(result, EagerResult)
    assert (result.state, result.status, result.outcome) == ("IGNORED", "IGNORED", Outcome.IGNORED)
    assert (result.ready(), result.successful(), result.failed()) == (True, False, False)
    assert result.get() is None
    assert result.get(timeout=0.01, propagate=False) is None
    assert result.result is None
    assert result.id not in queue.ids()


def test_skipped_result_is_ignored(queue: Queue) -> None:
    tasks.silent.delay("a")
    result = tasks.silent.apply_async(("a",), unique_on_conflict="skip")
    assert (result.state, result.get()) == ("IGNORED", None)
    assert len(queue.ids()) == 1


def test_as_tuple_makes_the_result_again(queue: Queue, ignored: Any) -> None:
    first = tasks.silent.delay("a")
    for result in (first, tasks.silent.delay("a"), tasks.add.delay(1, 2)):
        assert result.as_tuple() == ((result.id, None), None)
        assert result_from_tuple(result.as_tuple(), app=tasks.app) == result
        assert result.as_list() == [result.id]


def test_then_is_called_with_the_result(queue: Queue) -> None:
    called: list[Any] = []
    result = tasks.silent.delay("a")
    result.then(called.append)
    end(result, "done")
    result.get(timeout=5)
    assert called == [result]


def test_then_of_a_call_that_joins_at_its_commit_follows_the_active_task(queue: Queue) -> None:
    called: list[Any] = []
    first = tasks.silent.delay("a")
    with transaction.atomic():
        second = tasks.silent.delay_on_commit("a")
        second.then(called.append)
    end(first, "done")
    assert second.get(timeout=5) == "done"
    assert called == [second]


def test_then_of_an_ignored_call_is_called(ignored: Any, queue: Queue) -> None:
    called: list[Any] = []
    with transaction.atomic():
        result = ignored.delay_on_commit()
        result.then(called.append)
    assert result.state == "IGNORED"
    assert called == [result]


def test_forget_removes_the_result(queue: Queue) -> None:
    result = tasks.silent.delay("a")
    end(result, "done")
    assert result.get(timeout=5) == "done"
    result.forget()
    assert AsyncResult(result.id, app=tasks.app).state == "PENDING"


def test_revoke_needs_no_worker(queue: Queue, ignored: Any) -> None:
    for result in (tasks.silent.delay("a"), tasks.silent.delay("a"), ignored.delay()):
        result.revoke()


def test_waiting_too_long_is_a_timeout(queue: Queue) -> None:
    for result in (tasks.silent.delay("a"), tasks.silent.delay("a")):
        with pytest.raises(CeleryTimeoutError):
            result.get(timeout=0.05)


def test_results_of_many_calls_are_one_each_in_order(queue: Queue) -> None:
    results = tasks.silent.delay_many([("a",), ("b",), ("a",), ("c",)])
    assert [result.outcome for result in results] == [
        Outcome.TRIGGERED,
        Outcome.TRIGGERED,
        Outcome.UNIQUE,
        Outcome.TRIGGERED,
    ]
    assert results[2].id == results[0].id
    assert queue.ids() == [results[0].id, results[1].id, results[3].id]
    for result, value in zip(results, "abac", strict=True):
        end(result, value)
    assert [result.get(timeout=5) for result in results] == list("abac")


@pytest.mark.parametrize("end_as", ["triggered", "unique", "ignored", "waiting"])
def test_pickled_result_still_tells_how_its_call_ended(queue: Queue, ignored: Any, end_as: str) -> None:
    first = tasks.silent.delay("a")
    with transaction.atomic():
        result = {
            "triggered": lambda: first,
            "unique": lambda: tasks.silent.delay("a"),
            "ignored": ignored.delay,
            "waiting": lambda: tasks.silent.delay_on_commit("b"),
        }[end_as]()
        again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
    assert again == result
    assert again.outcome.value == end_as
    assert again.invocation_id == result.invocation_id


def test_each_invocation_has_an_id_of_its_own(queue: Queue, ignored: Any) -> None:
    results = [tasks.silent.delay("a"), tasks.silent.delay("a"), tasks.add.delay(1, 2), ignored.delay()]
    assert len({result.invocation_id for result in results}) == 4
    assert not {result.invocation_id for result in results} & {result.id for result in results}


def test_result_looked_up_by_its_id_is_an_ordinary_one(queue: Queue) -> None:
    result = tasks.silent.delay("a")
    found = tasks.silent.AsyncResult(result.id)
    assert found is not result
    assert (found.id, found.invocation_id, found.state) == (result.id, None, "PENDING")
    end(result, "done")
    assert found.get(timeout=5) == "done"


def test_copy_still_tells_how_its_call_ended() -> None:
    result = tasks.silent.apply_async(("copied",))
    copied = copy.copy(result)
    assert (copied.id, copied.outcome, copied.invocation_id) == (
        result.id,
        result.outcome,
        result.invocation_id,
    )
    assert copied.get() == "copied"


# --- made by us, not by Celery's constructor ----------------------------------------------------------------------


def test_result_is_what_celerys_constructor_would_make(queue: Queue) -> None:
    ours = tasks.add.delay(1, 2)
    theirs = AsyncResult(ours.id, backend=ours.backend, app=ours.app)
    assert "on_ready" not in vars(ours)
    given = {name: value for name, value in vars(theirs).items() if name != "on_ready"}
    assert given.items() <= vars(ours).items()
    assert type(ours.on_ready) is type(theirs.on_ready)
    assert ours.on_ready.fun() == ours._on_fulfilled
    assert ours.on_ready is ours.on_ready


def test_constructor_that_gives_more_is_called(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later Celery's, or that of somebody who watches results."""
    constructor = AsyncResult.__init__

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        self.watched = True

    monkeypatch.setattr(AsyncResult, "__init__", watched)
    assert tasks.add.delay(1, 2).watched
    monkeypatch.undo()
    assert not hasattr(tasks.add.delay(1, 2), "watched")


def test_threads_that_ask_at_once_get_the_same_promise(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naive: each sets its own, and a callback that was given to the other is never called."""
    result, both = tasks.add.delay(1, 2), threading.Barrier(2)

    def promise(*args: Any, **kwargs: Any) -> Any:
        made = vine.promise(*args, **kwargs)
        both.wait(5)
        return made

    monkeypatch.setattr(results, "promise", promise)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(result.on_ready)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1] is result.on_ready
