"""Many calls at once, through real workers and over RabbitMQ."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError

from django_celery_extensions import chunks, signals
from django_celery_extensions.exceptions import ManyNotSent
from django_celery_extensions.invocation import Outcome
from tests.live import forget_connections
from tests.project import journal, tasks
from tests.project.celery import app
from tests.proxy import Proxy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.live import Live
    from tests.servers_rabbitmq import RabbitMQServer
    from tests.workers import Worker

pytestmark = [pytest.mark.integration]

TRIGGERED, UNIQUE, WAITING = Outcome.TRIGGERED, Outcome.UNIQUE, Outcome.WAITING


@pytest.mark.django_db(transaction=True)
def test_each_of_many_runs_once(live_app: Live, shared_worker: Worker, monkeypatch: Any) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 50)
    results = tasks.unique.delay_many([(number,) for number in range(120)] * 2)
    with transaction.atomic():
        results += [tasks.unique.delay_on_commit(1000 + number) for number in range(60)]
        results += tasks.unique.delay_many_on_commit([(2000 + number,) for number in range(60)])
    assert [result.outcome for result in results[:120]] == [TRIGGERED] * 120
    values = [result.get(timeout=30) for result in results]
    assert [value[1] for value in values] == [result.id for result in results]
    started = Counter(task_id for _, _, task_id in journal.read("start"))
    # A second call of a key that had ended by then was sent and ran, as it does alone.
    triggered = {result.id for result in results if result.outcome is TRIGGERED}
    assert started == Counter(triggered)
    wait_until(lambda: not any(map(is_processing, values)), what="every claim has ended")


def is_processing(value: Any) -> bool:
    return tasks.unique.is_processing((value[0],))


@pytest.fixture
def in_threes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 3)


@pytest.mark.usefixtures("in_threes", "live_app")
@pytest.mark.django_db(transaction=True)
def test_rabbitmq_takes_them_over_one_connection(
    rabbitmq_server: RabbitMQServer, settings: SettingsWrapper
) -> None:
    settings.CELERY_BROKER_URL = rabbitmq_server.url
    forget_connections(app)
    before = rabbitmq_server.connections()
    results = tasks.silent.delay_many([*((number,) for number in range(20)), (0,)])
    with transaction.atomic():
        results += [tasks.add.delay_on_commit(number, 1) for number in range(10)]
    assert [result.outcome for result in results] == [TRIGGERED] * 20 + [UNIQUE] + [TRIGGERED] * 10
    del results[20]
    with rabbitmq_server.connection() as connection, connection.SimpleQueue("celery") as waiting:
        ids = [waiting.get(timeout=5).headers["id"] for _ in results]
    assert ids == [result.id for result in results]
    assert rabbitmq_server.connections() - before == 2  # theirs, and the one that looked
    forget_connections(app)


@pytest.mark.usefixtures("in_threes", "live_app")
def test_rabbitmq_that_is_gone_among_them(rabbitmq_server: RabbitMQServer, settings: SettingsWrapper) -> None:
    told = iter(range(100))

    def lose(**_: Any) -> None:
        if next(told) == 4:
            network.close()

    with Proxy(rabbitmq_server.port) as network:
        settings.CELERY_BROKER_URL = f"amqp://guest:guest@127.0.0.1:{network.port}//"
        forget_connections(app)
        signals.invocation_triggered.connect(lose)
        try:
            with pytest.raises(ManyNotSent) as raised:
                tasks.silent.apply_async_many([(key,) for key in "abcdefgh"], retry=False)
        finally:
            signals.invocation_triggered.disconnect(lose)
            forget_connections(app)
    error = raised.value
    assert isinstance(error.__cause__, (OperationalError, OSError))
    assert error.uncertain == []
    # RabbitMQ confirms nothing unless asked to: the first after that may be lost, as a single call would be.
    assert error.not_sent in ([3, 4, 5, 6, 7], [4, 5, 6, 7])
    claimed = [tasks.silent.is_processing((key,)) for key in "abcdefgh"]
    assert claimed == [position not in error.not_sent for position in range(8)]
