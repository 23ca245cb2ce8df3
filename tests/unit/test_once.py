"""Of two messages of one slot of beat a worker starts one; other messages are not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.app.trace import build_tracer

from django_celery_extensions import execution, once
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.leadership import beat_name
from django_celery_extensions.once import SLOT, SlotHeader, read_slot, slot_id
from django_celery_extensions.stores import slot_store
from django_celery_extensions.stores.slots import Leader
from tests.project.celery import app

if TYPE_CHECKING:
    from tests.servers import RedisServer
    from tests.unit.conftest import Declare, Queue

runs: list[str] = []


def body(x: Any = None) -> Any:
    runs.append("run")
    return x


def header(sending: str, task_id: str = "id", slot: int = 100) -> dict[str, Any]:
    packed = SlotHeader(task_id=task_id, beat=beat_name(), entry="a", slot=slot, sending=sending).pack()
    return {SLOT: packed}


def deliver(task: Any, task_id: str = "id", **headers: Any) -> str:
    """Trace a message as a worker does; returns the state it comes to."""
    request = {"id": task_id, "args": (), "kwargs": {}, "is_eager": False, "delivery_info": {}, **headers}
    request["hostname"] = "test"
    tracer = build_tracer(task.name, task, app=app)
    task.__trace__ = tracer
    outcome = task.__trace__(task_id, (), {}, request)
    info = outcome.info
    return "SUCCESS" if info is None else str(info.state)


@pytest.fixture(autouse=True)
def leader(queue: Queue) -> Leader:
    runs.clear()
    found = Leader(name=beat_name(), place="cache", fence=1)
    slot_store().open(found, [])
    return found


@pytest.mark.parametrize("options", [{}, {"unique": True}])
def test_second_message_of_a_slot_is_not_run(
    declare: Declare, leader: Leader, options: dict[str, Any]
) -> None:
    task = declare(body, **options)
    slot_store().again(leader, "a", 100, slot_id(leader.name, "a", 100))
    assert deliver(task, **header("s1")) == "SUCCESS"
    assert deliver(task, **header("s2")) == "IGNORED"
    assert deliver(task, **header("s1")) == "SUCCESS"  # delivered again, or a retry
    assert deliver(task, **header("s3", slot=200)) == "SUCCESS"
    assert len(runs) == 3


def test_second_message_ends_no_claim_of_the_first(declare: Declare, leader: Leader) -> None:
    task = declare(body, unique=True)
    slot_store().again(leader, "a", 100, slot_id(leader.name, "a", 100))
    assert deliver(task, **header("s1")) == "SUCCESS"
    task.apply_async((), task_id="id")  # as its retry would be queued
    assert task.is_processing(())
    deliver(task, **header("s2"))
    assert task.is_processing(())


def test_claim_that_was_made_for_the_second_message_ends_with_it(
    declare: Declare, queue: Queue, leader: Leader
) -> None:
    """A leader that stood still sends its message when the other one has run: nobody else would end that claim."""
    task = declare(body, unique=True)
    slot_store().again(leader, "a", 100, slot_id(leader.name, "a", 100))
    assert deliver(task, **header("s1")) == "SUCCESS"
    task.apply_async((), task_id="id", headers=header("s2"))
    (message,) = queue.messages()
    assert task.is_processing(())
    sent = {name: value for name, value in message.headers.items() if name.startswith("dce")}
    assert deliver(task, **sent) == "IGNORED"
    assert not task.is_processing(())
    assert len(runs) == 1


def test_second_message_that_finds_the_first_one_queued_ends_no_claim(
    declare: Declare, queue: Queue, leader: Leader
) -> None:
    task = declare(body, unique=True)
    slot_store().again(leader, "a", 100, slot_id(leader.name, "a", 100))
    for sending in ("s1", "s2"):
        task.apply_async((), task_id="id", headers=header(sending))
    slot_store().start(leader.name, "a", 100, slot_id(leader.name, "a", 100), "s1")
    (_, second) = queue.messages()
    sent = {name: value for name, value in second.headers.items() if name.startswith("dce")}
    assert deliver(task, **sent) == "IGNORED"
    assert task.is_processing(())


def test_message_that_is_not_beat_s_costs_nothing(declare: Declare, store_server: RedisServer) -> None:
    task = declare(body)
    with store_server.recording() as commands:
        deliver(task)
    assert commands == []
    with store_server.recording() as commands:
        deliver(task, **header("s1"))
    assert [command[0].upper() for command in commands] == ["EVALSHA"]


def test_header_that_was_copied_means_nothing(declare: Declare, leader: Leader) -> None:
    task = declare(body)
    slot_store().again(leader, "a", 100, slot_id(leader.name, "a", 100))
    deliver(task, **header("s1"))
    assert deliver(task, task_id="other", **header("s2")) == "SUCCESS"
    assert read_slot({SLOT: {"id": "x"}}, "x") is None
    assert read_slot({SLOT: "x"}, "x") is None
    assert read_slot(None, "x") is None


@pytest.mark.parametrize("options", [{}, {"unique": True}])
def test_message_comes_back_when_the_store_can_tell(
    declare: Declare, queue: Queue, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    class Gone:
        def __init__(self, **_: Any) -> None: ...

        def start(self, *_: Any) -> bool:
            msg = "gone"
            raise StoreUnavailable(msg)

    task = declare(body, **options)
    with monkeypatch.context() as patch:
        patch.setattr(execution, "STORE_PAUSES", ())
        patch.setattr(once, "slot_store", Gone)
        assert deliver(task, **header("s1")) == "IGNORED"
    assert runs == []
    (message,) = queue.messages()
    assert message.task_id == "id"
    assert message.headers[SLOT]["sending"] == "s1"
    assert message.headers["eta"] is not None
    carried = {name: value for name, value in message.headers.items() if name.startswith("dce")}
    assert deliver(task, **carried) == "SUCCESS"
    assert runs == ["run"]
