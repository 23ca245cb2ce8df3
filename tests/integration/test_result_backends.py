"""Each result backend with a real worker: what callers, those who joined, and canvases get from it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from django.core.cache import caches
from django.db import connections

from django_celery_extensions import results
from django_celery_extensions.exceptions import ResultBackendMissing, ResultMissing
from django_celery_extensions.invocation import Outcome
from tests.project import journal, tasks
from tests.sites import Site, in_database, site
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.plugin import DjangoDbBlocker

    from tests.servers import RedisServer

pytestmark = pytest.mark.integration


def in_redis(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"CELERY_RESULT_BACKEND": request.getfixturevalue("redis_server").database(9)}


def in_django_database(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"CELERY_RESULT_BACKEND": "django-db"}


def in_django_cache(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    memcached = request.getfixturevalue("memcached_server").url
    cache = {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": memcached}
    return {
        "CELERY_RESULT_BACKEND": "django-cache",
        "CELERY_CACHE_BACKEND": "memcached",
        "CACHES": {"memcached": cache},
    }


def in_sqlalchemy(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"CELERY_RESULT_BACKEND": f"db+sqlite:///{folder / 'results.sqlite3'}"}


def over_rpc(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    broker = request.getfixturevalue("rabbitmq_server").url
    return {"CELERY_RESULT_BACKEND": "rpc://", "CELERY_BROKER_URL": broker}


def nowhere(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"CELERY_RESULT_BACKEND": None}


MAKERS: dict[str, Callable[[pytest.FixtureRequest, Path], dict[str, Any]]] = {
    maker.__name__: maker
    for maker in (in_redis, in_django_database, in_django_cache, in_sqlalchemy, over_rpc, nowhere)
}
READABLE = [name for name in MAKERS if name.startswith("in_")]


def kept(*names: str) -> Any:
    """Run a test on these result backends only."""
    return pytest.mark.parametrize("started", names, indirect=True)


@pytest.fixture(scope="module", params=MAKERS)
def started(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    store_server: RedisServer,
    worker_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Site]:
    """A result backend and a worker, for all tests of it."""
    settings = MAKERS[request.param](request, tmp_path_factory.mktemp(request.param))
    settings.setdefault("CELERY_BROKER_URL", redis_server.database(10))
    with (
        django_db_blocker.unblock(),
        in_database(worker_database),
        site(store_server, worker_database, **settings) as made,
    ):
        made.start_worker()
        yield made


@pytest.fixture
def place(started: Site, store_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(results, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(results, "POLL_SECONDS", 0.3)
    store_server.flush()
    return started


def running(key: str = "a") -> Any:
    """Send the task that others will join, and wait until its body runs."""
    result = tasks.gated.delay(key)
    wait_until(lambda: journal.read("start"), what="the body runs")
    return result


def elsewhere(call: Callable[[], Any]) -> Any:
    """Call in a thread, which has connections and a reply queue of its own as another process would."""
    try:
        return call()
    finally:
        connections.close_all()
        caches.close_all()


@kept(*READABLE)
def test_all_who_joined_get_the_result(place: Site) -> None:
    first = running()
    joined = Barrier(3)

    def join() -> tuple[str, Outcome, Any]:
        result = tasks.gated.delay("a")
        joined.wait(10)
        return result.id, result.outcome, result.get(timeout=20)

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(elsewhere, join) for _ in range(2)]
        joined.wait(10)
        journal.open_gate("a")
        for other in others:
            assert other.result() == (first.id, Outcome.UNIQUE, f"a:{first.id}")
    assert first.get(timeout=20) == f"a:{first.id}"
    assert len(journal.read("start")) == 1


@kept(*READABLE)
def test_result_does_what_celerys_does(place: Site) -> None:
    called: list[Any] = []
    result = tasks.silent.delay("a")
    result.then(called.append)
    assert result.get(timeout=20) == "a"
    assert (result.ready(), result.successful(), result.status) == (True, True, "SUCCESS")
    assert not result.children
    assert called == [result]
    assert tasks.silent.AsyncResult(result.id).get(timeout=1) == "a"
    result.forget()
    assert tasks.silent.AsyncResult(result.id).state == "PENDING"


@kept(*READABLE, "over_rpc")
def test_call_waits_for_its_result(place: Site) -> None:
    assert tasks.silent.apply_async_and_get_result(("a",), timeout=20) == "a"
    with pytest.raises(ValueError, match="error"):
        tasks.ends.apply_async_and_get_result(("error",), timeout=20)


@kept(*READABLE, "over_rpc")
def test_message_that_the_worker_drops_is_ignored(place: Site) -> None:
    first = tasks.gated_window.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    second = tasks.gated_window.delay("a")
    journal.open_gate("a")
    assert second.get(timeout=20) is None
    assert (second.state, second.ready()) == ("IGNORED", True)
    assert first.get(timeout=20) == "a"
    assert len(journal.read("start")) == 1


@kept(*READABLE)
def test_duplicates_in_a_canvas_take_over_the_result(place: Site) -> None:
    first = running()
    value = f"a:{first.id}"
    of_chain = chain(tasks.gated.si("a"), tasks.collect.s())()
    of_group = group(tasks.gated.si("a"), tasks.gated.si("a"))()
    of_chord = chord([tasks.gated.si("a"), tasks.collect.si("x")])(tasks.collect.s())
    wait_until(
        lambda: place.worker.log().count("is not run: it waits") >= 4,
        what=lambda: f"the members wait; {place.worker.log()}",
    )
    journal.open_gate("a")
    assert of_chain.get(timeout=20) == value
    assert of_group.get(timeout=20) == [value, value]
    assert of_chord.get(timeout=20) == [value, "x"]
    assert len(journal.read("start")) == 1


@kept("over_rpc")
def test_rpc_tells_the_sender_and_nobody_else(place: Site) -> None:
    first = running()
    here = tasks.gated.delay("a")
    joined = Barrier(2)

    def join() -> Any:
        result = tasks.gated.delay("a")
        joined.wait(10)
        try:
            return result.get()
        finally:
            result.backend.result_consumer.stop()

    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(elsewhere, join)
        joined.wait(10)
        journal.open_gate("a")
        with pytest.raises(
            ResultMissing, match=f"task {first.id}, which this call joined, is over .* rpc://"
        ):
            there.result()
    assert here.get(timeout=20) == first.get(timeout=20) == f"a:{first.id}"


@kept("over_rpc", "nowhere")
def test_duplicate_in_a_canvas_runs_where_no_result_can_be_read(place: Site) -> None:
    running()
    chain(tasks.gated.si("a"), tasks.note.s("after"))()
    wait_until(
        lambda: "is not run: it waits" in place.worker.log(), what=lambda: f"it waits; {place.worker.log()}"
    )
    journal.open_gate("a", times=2)
    wait_until(lambda: journal.read("note"), what=lambda: f"the chain ends; {place.worker.log()}")
    events = [line[0] for line in journal.read("start", "end")]
    assert events == ["start", "end", "start", "end"], "one after the other"
    wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the key is free")


@kept("over_rpc", "nowhere")
def test_chord_that_can_not_end_claims_nothing(place: Site) -> None:
    with pytest.raises(NotImplementedError, match="chord"):
        chord([tasks.gated.si("a")])(tasks.collect.s())
    assert not tasks.gated.is_processing(("a",))


@kept("nowhere")
def test_what_needs_a_result_backend_says_so(place: Site) -> None:
    with pytest.raises(
        ResultBackendMissing, match="gated: apply_async_and_get_result.*CELERY_RESULT_BACKEND"
    ):
        tasks.gated.apply_async_and_get_result(("a",), timeout=20)
    assert not tasks.gated.is_processing(("a",))
    first = running()
    second = tasks.gated.delay("a")
    assert second.id == first.id
    for result in (first, second):
        with pytest.raises(ResultBackendMissing, match=f"task {first.id}: get.*CELERY_RESULT_BACKEND"):
            result.get(timeout=20)
        for name in ("state", "status", "result", "children", "traceback"):
            with pytest.raises(ResultBackendMissing, match=f"task {first.id}: its state"):
                getattr(result, name)
        for name in ("ready", "successful", "failed"):
            with pytest.raises(ResultBackendMissing, match=f"task {first.id}: its state"):
                getattr(result, name)()
        result.forget()
        result.then(print)
    journal.open_gate("a")
    wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the claim has ended")


@kept("nowhere")
def test_group_needs_no_result_backend(place: Site) -> None:
    group(tasks.note.si("a"), tasks.note.si("b"))()
    wait_until(lambda: len(journal.read("note")) == 2, what="both run")
    first = tasks.gated_window.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    assert tasks.gated_window.delay("a").id != first.id
    journal.open_gate("a")
    wait_until(lambda: "within the ignore window" in place.worker.log(), what="the second is not run")
    assert len(journal.read("start")) == 1
