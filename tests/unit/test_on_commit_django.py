"""Calls on commit in Django's own surroundings: requests, async code, and the test cases of `django.test`."""

from __future__ import annotations

import asyncio
import contextlib
import unittest
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.http import Http404, HttpResponse
from django.test import AsyncClient, Client, TestCase, TransactionTestCase
from django.urls import path

from tests.project import tasks
from tests.unit.stores import close_for_good

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest
    from pytest_django.fixtures import SettingsWrapper

    from tests.unit.conftest import Heard, Queue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("database")]

#: What the views have called, and how many messages there were when they returned.
results: list[Any] = []
seen: list[int] = []


@pytest.fixture(autouse=True)
def pages(settings: SettingsWrapper, queue: Queue) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["testserver"]
    Views.queue = queue
    yield
    results.clear()
    seen.clear()
    for name in "abc":
        sent = any(message.args == [name] for message in queue.messages())
        assert tasks.silent.is_processing((name,)) is sent


class Views:
    """Views that call tasks, and end in the way that their names tell."""

    queue: Queue

    @classmethod
    def call(cls) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        results.append(tasks.silent.delay_on_commit("a"))
        results.append(tasks.silent.delay_on_commit("b"))
        seen.append(len(cls.queue.ids()))

    @staticmethod
    def answers(request: HttpRequest) -> HttpResponse:
        Views.call()
        return HttpResponse("done")

    @staticmethod
    def answers_500(request: HttpRequest) -> HttpResponse:
        Views.call()
        return HttpResponse("without an exception", status=500)

    @staticmethod
    def raises(request: HttpRequest) -> HttpResponse:
        Views.call()
        raise KeyError

    @staticmethod
    def finds_nothing(request: HttpRequest) -> HttpResponse:
        Views.call()
        raise Http404

    @staticmethod
    def takes_back(request: HttpRequest) -> HttpResponse:
        Views.call()
        transaction.set_rollback(True)
        return HttpResponse("done")

    @staticmethod
    async def waits(request: HttpRequest) -> HttpResponse:
        await sync_to_async(in_a_block(Views.call))()
        return HttpResponse("done")

    @staticmethod
    async def waits_and_raises(request: HttpRequest) -> HttpResponse:
        def call() -> None:
            Views.call()
            raise KeyError

        await sync_to_async(in_a_block(call))()
        return HttpResponse("never reached")

    @staticmethod
    async def calls_itself(request: HttpRequest) -> HttpResponse:
        tasks.silent.delay_on_commit("a")
        return HttpResponse("never reached")


def in_a_block(function: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            with transaction.atomic():
                function()
        finally:
            close_for_good("default")  # of the thread that Django runs us in

    return run


VIEWS = ("answers", "answers_500", "raises", "finds_nothing", "takes_back")
ASYNC_VIEWS = ("waits", "waits_and_raises", "calls_itself")
urlpatterns = [path(f"{name}/", getattr(Views, name)) for name in (*VIEWS, *ASYNC_VIEWS)]


@pytest.fixture
def atomic_requests(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


# requests


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize(
    ("view", "status", "sent"),
    [
        ("answers", 200, 2),
        ("answers_500", 500, 2),
        ("raises", 500, 0),
        ("finds_nothing", 404, 0),
        ("takes_back", 200, 0),
    ],
)
def test_atomic_request(queue: Queue, view: str, status: int, sent: int) -> None:
    response = Client(raise_request_exception=False).get(f"/{view}/")
    assert (response.status_code, seen) == (status, [0]), "nothing is sent while the view runs"
    assert queue.ids() == [result.id for result in results][:sent]
    assert {result.state for result in results} == {"PENDING" if sent else "WAITING"}


def test_request_without_a_transaction_sends_at_once(queue: Queue) -> None:
    Client(raise_request_exception=False).get("/raises/")
    assert seen == [2]
    assert queue.ids() == [result.id for result in results]


# async code


def get(view: str) -> Any:
    async def ask() -> Any:
        return await AsyncClient(raise_request_exception=False).get(f"/{view}/")

    return asyncio.run(ask())


@pytest.mark.parametrize(("view", "status", "sent"), [("waits", 200, 2), ("waits_and_raises", 500, 0)])
def test_block_that_an_async_view_waits_for(queue: Queue, view: str, status: int, sent: int) -> None:
    response = get(view)
    assert (response.status_code, seen) == (status, [0])
    assert queue.ids() == [result.id for result in results][:sent]


def test_call_in_the_event_loop_is_refused_by_django_before_anything_happens(
    queue: Queue, heard: Heard
) -> None:
    assert get("calls_itself").status_code == 500

    async def call() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="use a thread or sync_to_async"):
            tasks.silent.delay_on_commit("a")
        with pytest.raises(SynchronousOnlyOperation):
            tasks.silent.delay_many_on_commit([("a",), ("b",)])

    asyncio.run(call())
    assert (queue.ids(), heard.names) == ([], [])


@pytest.mark.usefixtures("atomic_requests")
def test_django_makes_no_async_view_atomic(queue: Queue) -> None:
    async def ask() -> None:
        with pytest.raises(RuntimeError, match="ATOMIC_REQUESTS with async views"):
            await AsyncClient().get("/waits/")

    asyncio.run(ask())
    assert (queue.ids(), results) == ([], [])


# django.test


def run(case: type[unittest.TestCase]) -> None:
    """Run a test case as Django's runner would."""
    outcome = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(outcome)
    assert outcome.testsRun > 0
    assert [error for _, error in [*outcome.errors, *outcome.failures]] == []


def test_django_s_test_case_commits_nothing(queue: Queue) -> None:
    class Sample(TestCase):
        def test(self) -> None:
            with transaction.atomic():
                result = tasks.silent.delay_on_commit("a")
            assert (result.state, queue.ids()) == ("WAITING", [])

    run(Sample)


def test_django_s_test_case_captures_the_callbacks(queue: Queue) -> None:
    class Sample(TestCase):
        def test(self) -> None:
            with self.captureOnCommitCallbacks() as callbacks:
                tasks.silent.delay_on_commit("a")
                with transaction.atomic():
                    tasks.silent.delay_many_on_commit([("b",), ("c",)])
                with contextlib.suppress(KeyError), transaction.atomic():
                    tasks.silent.delay_on_commit("lost")
                    raise KeyError
            assert len(callbacks) == 2, "one for each call, and none of a lost block"
            assert queue.ids() == []
            callbacks[1]()
            assert [message.args for message in queue.messages()] == [["b"], ["c"]]
            callbacks[0]()
            assert [message.args for message in queue.messages()] == [["b"], ["c"], ["a"]]

    run(Sample)


def test_django_s_test_case_runs_the_callbacks(queue: Queue) -> None:
    class Sample(TestCase):
        def test(self) -> None:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                with transaction.atomic():
                    first = tasks.silent.delay_on_commit("a")
                    second = tasks.add.delay_on_commit(1, 2)
                    again = tasks.silent.delay_on_commit("a")
                    transaction.on_commit(lambda: results.append(tasks.silent.delay_on_commit("b")))
                assert queue.ids() == []
            assert len(callbacks) == 5, "also what a callback registers"
            assert queue.ids() == [first.id, second.id, results.pop().id]
            assert again.id == first.id

    run(Sample)


def test_django_s_transaction_test_case(queue: Queue) -> None:
    class Sample(TransactionTestCase):
        available_apps = ("tests.project",)

        def test_commit_sends(self) -> None:
            with transaction.atomic():
                result = tasks.silent.delay_on_commit("a")
                assert queue.ids() == []
            assert queue.ids() == [result.id]

        def test_rollback_does_not(self) -> None:
            before = queue.ids()
            with contextlib.suppress(KeyError), transaction.atomic():
                tasks.silent.delay_on_commit("b")
                raise KeyError
            assert queue.ids() == before

    run(Sample)


def test_eager_task_runs_at_the_commit(settings: SettingsWrapper) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True

    class Sample(TestCase):
        def test(self) -> None:
            with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
                result = tasks.silent.delay_on_commit("a")
                assert result.state == "WAITING"
            assert len(callbacks) == 1
            assert result.get() == "a"

    run(Sample)
    with transaction.atomic():
        result = tasks.silent.delay_on_commit("a")
        assert result.state == "WAITING"
    assert result.get() == "a"
