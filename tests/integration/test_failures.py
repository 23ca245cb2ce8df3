"""Brokers, stores and workers that go away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import kombu
import pytest
from billiard.exceptions import WorkerLostError
from django.test import override_settings
from kombu.exceptions import OperationalError

from django_celery_extensions.exceptions import StoreUnavailable
from tests.project import journal, tasks
from tests.servers import RedisServer
from tests.settings import redis_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration]

needs_restore_interval = pytest.mark.skipif(
    kombu.VERSION < (5, 6), reason="kombu looks for expired messages every 100 s before 5.6"
)


def test_publish_failure_ends_the_claim(live_app: Live) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    with live_app.app.connection_for_write(nowhere) as connection, pytest.raises(OperationalError):
        tasks.unique.apply_async(("a",), connection=connection, retry=False)
    assert not tasks.unique.is_processing(("a",))
    assert tasks.unique.delay("a").outcome == "triggered"


def test_task_that_the_worker_does_not_know_ends_its_claim(live_app: Live, make_worker: Any) -> None:
    """As where the web servers were deployed before the workers. Naive: only the task's own request class settles."""

    @live_app.app.task(name="declared.newer", unique=True, shared=False, lazy=False)
    def task(key: str) -> None:
        pass

    result = task.delay("a")
    assert task.is_processing(("a",))
    worker = make_worker()
    worker.wait_for_log("Received unregistered task of type 'declared.newer'")
    wait_until(lambda: not task.is_processing(("a",)), timeout=5, what="the claim ends")
    assert task.delay("a").id != result.id
    del live_app.app.tasks["declared.newer"]


def test_unserialisable_arguments_claim_nothing(live_app: Live) -> None:
    with pytest.raises(Exception, match=r"not JSON serializable|no unique key"):
        tasks.unique.delay(object())
    assert live_app.queued() == 0
    with live_app.store.client() as client:
        assert client.dbsize() == 0


def unreachable_store(live: Live, server: RedisServer) -> dict[str, Any]:
    caches = redis_cache(server.url)
    caches["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] = 0.2
    return {"default": caches}


def test_store_outage_at_the_call_is_told_and_sends_nothing(live_app: Live, make_server: Any) -> None:
    server = make_server(RedisServer)
    server.kill()
    with override_settings(CACHES=unreachable_store(live_app, server)):
        with pytest.raises(StoreUnavailable):
            tasks.unique.delay("a")
        assert live_app.queued() == 0
        assert tasks.unique.apply_async(("a",), unique_on_store_error="publish").outcome == "triggered"
    assert live_app.queued() == 1


def test_killed_worker_frees_its_key_within_one_lease(live_app: Live, make_worker: Any) -> None:
    worker: Worker = make_worker(env={"TEST_LOCK_TIMEOUT": "3"})
    tasks.gated.apply_async(("a",), stale_time_limit=3600)
    wait_until(lambda: journal.read("start"), what="the body runs")
    time.sleep(4)  # longer than a lease: the heartbeat keeps the claim of a living worker
    assert tasks.gated.is_processing(("a",))
    worker.kill()
    killed = time.monotonic()
    wait_until(lambda: not tasks.gated.is_processing(("a",)), timeout=5, what="the key is free")
    assert time.monotonic() - killed < 3 + 1


def test_child_that_is_killed_before_its_retry_is_sent_frees_its_key(
    live_app: Live, make_worker: Any
) -> None:
    make_worker(env={"TEST_LOCK_TIMEOUT": "3"})
    result = tasks.dies_resending.apply_async(("a",), stale_time_limit=3600)
    with pytest.raises(WorkerLostError):
        result.get(timeout=20)
    killed = time.monotonic()
    wait_until(lambda: not tasks.dies_resending.is_processing(("a",)), timeout=5, what="the key is free")
    assert time.monotonic() - killed < 3 + 1
    assert live_app.queued() == 0


def test_frozen_worker_loses_its_claim_and_learns_it(live_app: Live, make_worker: Any) -> None:
    worker: Worker = make_worker(env={"TEST_LOCK_TIMEOUT": "1"})
    tasks.watchful.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    worker.freeze()
    wait_until(lambda: not tasks.watchful.is_processing(("a",)), timeout=5, what="the lease has ended")
    second = tasks.watchful.delay("a")
    worker.thaw()
    wait_until(lambda: journal.read("lost"), what="the body learns that its claim is lost")
    fences = [line[2] for line in journal.read("start")]
    journal.open_gate("a", times=2)
    second.get(timeout=20)
    assert len(fences) >= 1


@needs_restore_interval
def test_redelivered_message_does_not_run_beside_itself(live_app: Live, make_worker: Any) -> None:
    worker: Worker = make_worker(env={"TEST_LOCK_TIMEOUT": "2"}, concurrency=1)
    result = tasks.gated_late.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    worker.kill()
    second: Worker = make_worker(env={"TEST_LOCK_TIMEOUT": "2", "TEST_VISIBILITY_TIMEOUT": "1"})
    journal.open_gate("a", times=2)
    wait_until(result.ready, timeout=30, what=lambda: f"it has run; {second.log()}")
    assert len(journal.read("start")) == 2


def test_lost_child_with_requeue_keeps_the_claim_until_it_ran(live_app: Live, worker: Worker) -> None:
    result = tasks.dies_once.delay("a")
    assert result.get(timeout=20) == "second"
    wait_until(lambda: not tasks.dies_once.is_processing(("a",)), what="the key is free")


def test_store_outage_at_the_start_delays_the_task(
    live_app: Live, make_worker: Any, make_server: Any
) -> None:
    store = make_server(RedisServer)
    worker: Worker = make_worker(env={"TEST_REDIS_URL": store.url})
    with override_settings(CACHES={"default": redis_cache(store.url)}):
        store.freeze()
        store.thaw()
        result = tasks.unique.delay("a")
        result.get(timeout=10)
        store.kill()
    live_app.app.send_task("tests.project.tasks.unique", ("b",))
    worker.wait_for_log("waits for the store", timeout=30)
    store.restart()
    wait_until(lambda: [line for line in journal.read("end") if line[1] == "b"], timeout=30, what="b has run")


@needs_restore_interval
def test_message_delivered_again_while_it_runs_is_not_run_beside_itself(
    live_app: Live, make_worker: Any
) -> None:
    worker: Worker = make_worker(env={"TEST_VISIBILITY_TIMEOUT": "1"})
    result = tasks.gated_late.delay("a")
    wait_until(lambda: journal.read("start"), what="the body runs")
    # The broker gives the message out once more, since it was not acknowledged within its visibility timeout.
    wait_until(lambda: worker.log().count(f"gated_late[{result.id}] received") > 1, what="delivered again")
    time.sleep(1)
    journal.open_gate("a", times=5)
    assert result.get(timeout=20) == f"a:{result.id}"
    wait_until(lambda: "it has run already" in worker.log(), timeout=20, what=worker.log)
    assert len(journal.read("start")) == 1
    assert not tasks.gated_late.is_processing(("a",))
