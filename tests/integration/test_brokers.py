"""Brokers other than Redis and RabbitMQ, with real workers: SQS (FIFO and standard queues), SQLAlchemy, filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kombu
import pytest
from django.db import transaction

from django_celery_extensions.invocation import Outcome
from django_celery_extensions.testing import isolated_claims
from tests.conftest import start
from tests.project import journal, tasks
from tests.servers_sqs import Sent, SQSServer
from tests.sites import Site, members_take_over, site
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import RedisServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # kombu's tables on SQLAlchemy 2.1
]


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[SQSServer]:
    with start(SQSServer) as server:
        yield server


def sqs(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    server = request.getfixturevalue("sqs_server")
    return {
        "CELERY_BROKER_URL": server.url,
        "CELERY_BROKER_TRANSPORT_OPTIONS": dict(server.transport_options),
        "CELERY_TASK_DEFAULT_QUEUE": "tests.fifo",
        "DJANGO_CELERY_EXTENSIONS_AUTO_SQS_MESSAGE_GROUP_ID": True,
    }


def sqlalchemy(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    pytest.importorskip("sqlalchemy")
    return {"CELERY_BROKER_URL": f"sqla+sqlite:///{folder / 'broker.sqlite3'}"}


def filesystem(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    for name in ("messages", "processed"):
        (folder / name).mkdir()
    options = {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "store_processed": True,
        "processed_folder": str(folder / "processed"),
        "control_folder": str(folder / "control"),
    }
    return {"CELERY_BROKER_URL": "wholefiles://", "CELERY_BROKER_TRANSPORT_OPTIONS": options}


BROKERS = {maker.__name__: maker for maker in (sqs, sqlalchemy, filesystem)}


@pytest.fixture(scope="module", params=BROKERS)
def started(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    store_server: RedisServer,
    worker_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A broker and its worker, for all tests of it."""
    settings = BROKERS[request.param](request, tmp_path_factory.mktemp(request.param))
    queues = ["tests.fifo", "plain"] if request.param == "sqs" else ["celery", "plain"]
    with site(
        store_server, worker_database, CELERY_RESULT_BACKEND=redis_server.database(9), **settings
    ) as made:
        made.start_worker(queues=queues)
        yield made


@pytest.fixture
def place(started: Site, store_server: RedisServer) -> Site:
    store_server.flush()
    return started


only_sqs = pytest.mark.parametrize("started", ["sqs"], indirect=True)


def arrived(server: SQSServer, task_id: str) -> list[Sent]:
    """Every message of a task that came to the server, in order."""
    return [sent for sent in server.sent() if sent.task_id == task_id]


def test_duplicates_join_or_wait_for_the_running_task(place: Site) -> None:
    first = tasks.gated.delay("a")
    wait_until(lambda: journal.read("start"), what=lambda: f"the body runs; {place.worker.log()}")
    second = tasks.gated.delay("a")
    assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
    members_take_over(place, first, second)
    wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the claim has ended")


@pytest.mark.django_db(transaction=True)
def test_retry_comes_after_its_delay_and_keeps_the_claim(place: Site) -> None:
    with transaction.atomic():
        first = tasks.flaky.delay_on_commit("a", failures=1)
        others = tasks.silent.delay_many_on_commit([(number,) for number in range(4)])
    wait_until(lambda: journal.read("try"), what="the first try")
    assert tasks.flaky.delay("a", failures=1).id == first.id
    assert first.get(timeout=20) == "a"
    assert [line[3] for line in journal.read("try")] == [0, 1]
    wait_until(lambda: not tasks.flaky.is_processing(("a",)), what="the claim has ended")
    assert [result.get(timeout=20) for result in others] == [0, 1, 2, 3]


@only_sqs
def test_group_and_deduplication_of_each_sending(place: Site, sqs_server: SQSServer) -> None:
    """A FIFO queue drops what has the deduplication id of the last five minutes: of a retry it must be another one."""
    retried = tasks.flaky.delay("a")
    first = tasks.gated.delay("b")
    wait_until(lambda: journal.read("start"), what="the body runs")
    waiting = tasks.gated.apply_async(("b",), link=tasks.note.s())
    wait_until(lambda: len(arrived(sqs_server, waiting.id)) > 2, what="it was sent again, to wait")
    journal.open_gate("b")
    assert waiting.get(timeout=20) == f"b:{first.id}"
    assert retried.get(timeout=20) == "a"
    assert [line[3] for line in journal.read("try")] == [0, 1, 2]
    sent = arrived(sqs_server, retried.id)
    assert [message.message["headers"]["retries"] for message in sent] == [0, 1, 2]
    again = arrived(sqs_server, waiting.id)
    assert all(message.group == message.task_id for message in (*sent, *again))
    deduplications = [message.deduplication for message in (*sent, *again)]
    assert all(deduplications)
    assert len(set(deduplications)) == len(deduplications)


@only_sqs
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("queue", ["tests.fifo", "plain"])
def test_options_of_sqs_come_through_every_door(place: Site, sqs_server: SQSServer, queue: str) -> None:
    given = {"MessageGroupId": "customer 7", "queue": queue}
    args = [(("a",), None), (("b",), None)]
    results = [
        tasks.collect.apply_async((1,), **given, MessageDeduplicationId=f"one {queue}"),
        *tasks.silent.apply_async_many(args, **given),
        tasks.collect.s(2).set(**given, MessageDeduplicationId=f"two {queue}").delay(),
    ]
    with transaction.atomic():
        results += [
            tasks.collect.apply_async_on_commit((3,), **given, MessageDeduplicationId=f"three {queue}"),
            *tasks.unique.apply_async_many_on_commit(args, **given),
        ]
    for result in results:
        result.get(timeout=20)
    assert tasks.collect.apply_async_and_get_result((4,), timeout=20, **given, DelaySeconds=1) == 4
    sent = [message for message in sqs_server.sent(queue) if message.given("MessageGroupId") == "customer 7"]
    assert len(sent) >= len(results) + 1
    knows_groups = queue == "tests.fifo" or kombu.VERSION >= (5, 6)
    assert {message.group for message in sent} == {"customer 7" if knows_groups else None}
    if queue == "tests.fifo":
        assert {f"one {queue}", f"two {queue}", f"three {queue}"} < {
            message.deduplication for message in sent
        }
    else:
        assert [message.request["DelaySeconds"] for message in sent if "DelaySeconds" in message.request] == [
            1
        ]
        assert {message.deduplication for message in sent} == {None}, "a standard queue takes none"


@only_sqs
def test_retry_stays_in_the_group_of_the_call_and_is_not_dropped(place: Site, sqs_server: SQSServer) -> None:
    result = tasks.flaky.apply_async(
        ("a",), {"failures": 1}, MessageGroupId="customer 8", MessageDeduplicationId="once"
    )
    assert result.get(timeout=20) == "a"
    first, retry = arrived(sqs_server, result.id)
    assert (first.group, retry.group) == ("customer 8", "customer 8")
    assert first.deduplication == "once" != retry.deduplication


@only_sqs
def test_what_kombu_publishes_twice_has_one_deduplication_id(
    place: Site, sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes again when it got no answer. SQS, which may have taken the message, drops the second one."""
    from kombu.transport.SQS import Channel

    put, lost = Channel._put, []

    def put_and_hear_nothing(self: Any, queue: str, message: Any, **kwargs: Any) -> None:
        put(self, queue, message, **kwargs)
        if not lost:
            lost.append(message)
            msg = "the answer is lost"
            raise OSError(msg)

    monkeypatch.setattr(Channel, "_put", put_and_hear_nothing)
    result = tasks.note.delay("a")
    assert result.get(timeout=20) == ["a"]
    one, two = arrived(sqs_server, result.id)
    assert (one.group, one.deduplication) == (two.group, two.deduplication)


@only_sqs
def test_lost_child_is_replaced(place: Site) -> None:
    result = tasks.dies_once.delay("a")
    assert result.get(timeout=20) == "second"
    assert len(journal.read("start")) == 2


def test_worker_in_this_process(store_server: RedisServer, worker_database: Path) -> None:
    """The broker in memory: a worker thread of the process that calls, as in tests."""
    from celery.contrib.testing.worker import start_worker

    memory = {
        "CELERY_BROKER_URL": "memory://",
        "CELERY_BROKER_TRANSPORT_OPTIONS": {"polling_interval": 0.05},
        "CELERY_RESULT_BACKEND": "cache+memory://",
    }
    with (
        site(store_server, worker_database, **memory) as made,
        isolated_claims(),
        start_worker(made.app, pool="threads", concurrency=2, perform_ping_check=False),
    ):
        first = tasks.gated.delay("a")
        wait_until(lambda: journal.read("start"), what="the body runs")
        second = tasks.gated.delay("a")
        assert (second.id, second.outcome) == (first.id, Outcome.UNIQUE)
        journal.open_gate("a")
        assert first.get(timeout=20) == second.get(timeout=20) == f"a:{first.id}"
        assert tasks.flaky.delay("a", failures=1).get(timeout=20) == "a"
        assert not tasks.flaky.is_processing(("a",))
