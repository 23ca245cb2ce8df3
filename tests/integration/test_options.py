"""Every option through every door, by what arrives on a real RabbitMQ: the table of docs/options-and-doors.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Reject
from kombu import Exchange, Queue

from django_celery_extensions.timing import CLOCKS_DIFFER
from tests.options.doors import DOORS, Door
from tests.options.options import OPTIONS
from tests.options.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import DjangoDbBlocker

    from tests.options.rows import Row
    from tests.servers import RedisServer
    from tests.servers_rabbitmq import RabbitMQServer

pytestmark = [
    pytest.mark.integration,
    # From Celery 5.7 on, of queue, exchange, routing_key, priority and delivery_mode.
    pytest.mark.filterwarnings(r"ignore:\s*The '\w+' task attribute"),
    # py-amqp leaves the socket of a connection that the broker has reset to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

CELLS = [(row, door) for row in OPTIONS for door in DOORS if row.reason(door) is None]


@pytest.fixture(scope="module")
def stage(
    rabbitmq_server: RabbitMQServer,
    redis_server: RedisServer,
    store_server: RedisServer,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Stage]:
    """One for all tests of this module; transactions are real, and nothing is written in them."""
    from tests.project.celery import app

    with (
        Stage(app, rabbitmq_server, results=redis_server, store=store_server) as stage,
        django_db_blocker.unblock(),
    ):
        yield stage


@pytest.mark.parametrize(("row", "door"), CELLS, ids=[f"{row.name}-{door.name}" for row, door in CELLS])
def test_option(stage: Stage, row: Row, door: Door) -> None:
    with stage.swept_after_failure():
        row.play(stage, door, unique=False)
        row.play(stage, door, unique=True)


def test_messages_are_delivered_in_order_of_priority(stage: Stage) -> None:
    ranked = Queue("ranked", Exchange("ranked", "direct"), "ranked", max_priority=10)
    sent = {}
    for priority in (3, 0, 9, 5, 1, 7, 2, 8, 4, 6):
        sent[stage.unique.apply_async((stage.key(),), priority=priority, queue=ranked).id] = priority
    assert [sent[stage.take("ranked").headers["id"]] for _ in sent] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_claim_that_goes_back_to_the_queue_ends_with_its_message(stage: Stage) -> None:
    def reject(task: Any) -> None:
        raise Reject("again", requeue=True)

    task = stage.declare("back", unique=True, acks_late=True)
    args = (stage.key(),)
    task.apply_async(args, expires=60)
    assert 59 < stage.claimed_for(task, args) < 60 + CLOCKS_DIFFER
    stage.acts[args[0]].append(reject)
    stage.perform(stage.take())
    assert 58 < stage.claimed_for(task, args) < 60 + CLOCKS_DIFFER
