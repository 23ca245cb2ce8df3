"""A store that is away when a message starts or is sent again: its claim is kept all the same."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Ignore, Retry
from django.test import override_settings

from django_celery_extensions import execution, settling
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.execution import come_back
from django_celery_extensions.keys import unique_name
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Verdict
from django_celery_extensions.stores.redis import RedisClaimStore
from django_celery_extensions.task import DjangoTask
from tests.project import tasks
from tests.project.celery import app
from tests.servers import RedisServer
from tests.settings import redis_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_celery_extensions.stores.base import Holding
    from tests.live import Live

pytestmark = [pytest.mark.integration]

LEASE = 1.0


@pytest.fixture
def store(make_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server that this test may freeze; nobody waits for it for long."""
    server = make_server(RedisServer)
    cache = redis_cache(server.url)
    cache["OPTIONS"]["SOCKET_TIMEOUT"] = 0.3
    monkeypatch.setattr(execution, "STORE_PAUSES", (0.01,))
    with override_settings(CACHES={"default": cache}, DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT=LEASE):
        yield server


@contextlib.contextmanager
def delivered(task: Any, *args: Any, **options: Any) -> Iterator[Any]:
    """Call a task and take its message as a worker's process does, up to its body."""
    result = task.apply_async(args, **options)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("celery").get(timeout=5)
        message.ack()
    task.push_request(**{**message.headers, "args": args, "kwargs": {}, "called_directly": False})
    try:
        yield result
    finally:
        task.pop_request()


def name_of(task: Any, *args: Any) -> str:
    return unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, args, {})


def claim_of(task: Any, *args: Any) -> Holding | None:
    """Return the claim of a call as the store has it."""
    return claim_store().holding(name_of(task, *args))


def stays_queued(task: Any, task_id: str, since: float) -> None:
    """Wait for longer than a lease; nobody else is let in."""
    while time.monotonic() < since + LEASE + 0.5:
        assert task.delay("a").id == task_id
        time.sleep(0.05)
    claim = claim_of(task, "a")
    assert claim is not None
    assert claim.token == "", "it is queued, for the message that was sent again"


def test_message_that_waits_for_the_store_keeps_its_claim(live_app: Live, store: RedisServer) -> None:
    """The lease of the unanswered start would end before the message comes back."""
    with delivered(tasks.silent, "other"):
        tasks.silent("other")  # the scripts are known to the server now
    with delivered(tasks.silent, "a") as result, store.frozen(), pytest.raises(Ignore):
        tasks.silent("a")
    thawed = time.monotonic()
    wait_until(lambda: claim_of(tasks.silent, "a"), what="the server is awake")
    stays_queued(tasks.silent, result.id, thawed)


def test_claim_of_a_message_that_waits_for_its_mutex_ends_with_the_message(
    live_app: Live, store: RedisServer
) -> None:
    """RabbitMQ drops it when it has expired, and tells nobody."""
    with delivered(tasks.silent, "a", expires=30):
        come_back(tasks.silent, tasks.silent.request, "its mutex is taken")
    assert 20 < store.lasts(name_of(tasks.silent, "a")) <= 31


def test_claim_of_a_message_that_waits_for_the_store_ends_with_the_message(
    live_app: Live, store: RedisServer
) -> None:
    with delivered(tasks.silent, "other"):
        tasks.silent("other")
    with delivered(tasks.silent, "a", expires=30), store.frozen(), pytest.raises(Ignore):
        tasks.silent("a")
    thawed = time.monotonic()
    while time.monotonic() < thawed + LEASE + 0.5:  # the start is undone meanwhile
        assert store.lasts(name_of(tasks.silent, "a")) <= 31
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_claim_of_a_message_that_ends_in_an_outage_ends_when_the_store_is_back(
    live_app: Live, store: RedisServer, how: str
) -> None:
    """Its worker's parent process settles it, and that must not be forgotten until the stale limit."""
    with delivered(tasks.silent, "a") as result:
        request = vars(tasks.silent.request)
        token = settling.mark_delivery(request) if how == "lost" else ""
        with store.frozen():
            settling.abandon(tasks.silent, request, token=token)
        wait_until(lambda: claim_of(tasks.silent, "a") is None, what="the claim has ended")
        assert tasks.silent.delay("a").id != result.id


def test_retry_that_could_not_be_told_to_the_store_keeps_its_claim(
    live_app: Live, store: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StoreUnavailable

    with delivered(tasks.flaky, "a") as result, monkeypatch.context() as patch:
        patch.setattr(RedisClaimStore, "admit", away)
        with pytest.raises(Retry):
            tasks.flaky("a")
    stays_queued(tasks.flaky, result.id, time.monotonic())


@pytest.mark.parametrize("how", ["retried", "waits"])
def test_claim_is_queued_for_one_lease_until_its_message_is_out(
    live_app: Live, store: RedisServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who is killed before that has sent nothing, and nobody would end the claim before its stale limit."""
    task, seen = tasks.retried_after, []
    with delivered(task, "a", 60):

        def send(*arguments: Any, **options: Any) -> Any:
            seen.append(store.lasts(name_of(task, "a", 60)))
            return DjangoTask.send(task, *arguments, **options)

        monkeypatch.setattr(task, "send", send)
        if how == "retried":
            with pytest.raises(Retry):
                task("a", 60)
        else:
            come_back(task, task.request, "its mutex is taken")
    assert 0 < seen[0] <= LEASE
    assert store.lasts(name_of(task, "a", 60)) > 60


def test_message_that_starts_at_once_has_its_own_claim(live_app: Live, store: RedisServer) -> None:
    """What its first run still has to tell the store comes too late then."""
    task = tasks.retried_after
    with delivered(task, "a", 0) as result:

        def send(*_: Any, **__: Any) -> None:
            ask = Ask(name=name_of(task, "a", 0), task_id=result.id, token="second run", claim=LEASE)
            assert claim_store().start(ask).verdict is Verdict.FREE

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "send", send)
            with pytest.raises(Retry):
                task("a", 0)
    claim = claim_of(task, "a", 0)
    assert claim is not None
    assert claim.token == "second run"
    assert store.lasts(name_of(task, "a", 0)) <= LEASE
