"""A hook, or a receiver of a signal, that raises: its error goes to the caller, and no claim stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_celery_extensions import signals
from django_celery_extensions.exceptions import ManyNotSent
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask, Verdict
from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Declare, Queue

SIGNALS = {
    "on_invocation_apply": signals.invocation_applied,
    "on_invocation_trigger": signals.invocation_triggered,
    "on_invocation_unique": signals.invocation_unique,
    "on_invocation_ignored": signals.invocation_ignored,
    "on_task_start": signals.task_started,
    "on_task_success": signals.task_succeeded,
}


class HookError(Exception):
    """What the hooks of these tests raise."""


def body(x: Any = None) -> Any:
    return x


@pytest.fixture(params=["hook", "signal"])
def broken(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a maker of base classes (and receivers) of which one event raises, while `on` is set."""
    receivers = []

    def raise_error(*_: Any, **__: Any) -> None:
        if make.on:  # type: ignore[attr-defined]
            raise HookError

    def make(hook: str) -> type[DjangoTask]:
        if request.param == "hook":
            return type("Base", (DjangoTask,), {"abstract": True, hook: raise_error})
        SIGNALS[hook].connect(raise_error, weak=False)
        receivers.append((SIGNALS[hook], raise_error))
        return DjangoTask

    make.on = True  # type: ignore[attr-defined]
    yield make
    for signal, receiver in receivers:
        signal.disconnect(receiver)


@pytest.mark.parametrize("hook", ["on_invocation_apply", "on_invocation_trigger"])
@pytest.mark.parametrize("way", ["delay", "delay_on_commit", "delay_many"])
@pytest.mark.django_db(transaction=True)
def test_call_is_neither_sent_nor_claimed(
    queue: Queue, declare: Declare, broken: Any, hook: str, way: str
) -> None:
    task = declare(body, base=broken(hook), unique=True)
    with pytest.raises((HookError, ManyNotSent)), transaction.atomic():  # noqa: PT012 - or the commit raises
        if way == "delay_many":
            task.delay_many([("a",), ("b",)])
        else:
            getattr(task, way)("a")
    assert queue.ids() == []
    assert not task.is_processing(("a",))
    assert not task.is_processing(("b",))
    broken.on = False
    assert [task.delay("a").id] == queue.ids()


def test_first_claim_survives_the_broken_hook_of_its_duplicate(
    queue: Queue, declare: Declare, broken: Any
) -> None:
    task = declare(body, base=broken("on_invocation_unique"), unique=True)
    first = task.delay("a")
    with pytest.raises(HookError):
        task.delay("a")
    assert task.is_processing(("a",))
    broken.on = False
    assert task.delay("a").id == first.id
    assert queue.ids() == [first.id]


def test_broken_hook_of_an_ignored_call_claims_nothing(queue: Queue, declare: Declare, broken: Any) -> None:
    task = declare(
        body,
        base=broken("on_invocation_ignored"),
        unique=True,
        ignore_task_after_success=True,
        ignore_task_timedelta=60,
    )
    assert task.apply(("a",)).get() == "a"
    with pytest.raises(HookError):
        task.delay("a")
    assert not task.is_processing(("a",))
    assert queue.ids() == []


@pytest.mark.parametrize("hook", ["on_task_start", "on_task_success", "on_invocation_trigger"])
def test_eager_run_ends_its_claim(declare: Declare, broken: Any, hook: str) -> None:
    task = declare(body, base=broken(hook), unique=True)
    error: BaseException | None = None
    try:
        result = task.delay("a")
        error = result.result if isinstance(result.result, BaseException) else None
    except HookError as exc:
        error = exc
    assert isinstance(error, HookError)
    assert not task.is_processing(("a",))


def test_replaced_task_keeps_its_claim_when_the_newer_one_is_not_sent(
    queue: Queue, declare: Declare, broken: Any
) -> None:
    """The newest *queued* invocation wins: one that was never queued must not end the one that is."""
    task = declare(body, base=broken("on_invocation_trigger"), unique=True, unique_on_conflict="replace")
    broken.on = False
    first = task.delay("a")
    broken.on = True
    with pytest.raises(HookError):
        task.delay("a")
    broken.on = False
    assert queue.ids() == [first.id]
    task.apply_async(("a",), unique_on_conflict="join")
    assert queue.ids() == [first.id], "the first is still to run"


def test_claim_is_not_handed_back_to_a_task_that_was_dropped_meanwhile(
    queue: Queue, declare: Declare
) -> None:
    """Naive: its message is gone, so that nobody would run for as long as a claim can last."""

    class Slow(DjangoTask):
        abstract = True

        def on_invocation_trigger(self, _: Any, __: Any, ___: Any, task_id: str, *____: Any) -> None:
            if queue.messages():  # a worker takes it, while this hook still works
                (message,) = queue.messages()
                name = message.headers["dce"]["name"]
                start = Ask(name=name, task_id=message.task_id, token="worker", claim=60)
                assert claim_store().start(start).verdict is Verdict.HELD
                raise HookError

    task = declare(body, base=Slow, unique=True, unique_on_conflict="replace")
    task.delay("a")
    with pytest.raises(HookError):
        task.delay("a")
    assert not task.is_processing(("a",))


def test_second_message_of_a_task_id_that_is_not_sent_leaves_the_first_one_its_claim(
    queue: Queue, declare: Declare, broken: Any
) -> None:
    task = declare(body, base=broken("on_invocation_trigger"), unique=True)
    broken.on = False
    task.apply_async(("a",), task_id="given")
    broken.on = True
    with pytest.raises(HookError):
        task.apply_async(("a",), task_id="given")
    broken.on = False
    assert task.delay("a").id == "given"
    assert queue.ids() == ["given"]


def test_replaced_task_still_runs_when_the_newer_one_is_not_sent(
    queue: Queue, declare: Declare, broken: Any
) -> None:
    task = declare(body, base=broken("on_invocation_trigger"), unique=True, unique_on_conflict="replace")
    broken.on = False
    first = task.delay("a")
    broken.on = True
    with pytest.raises(HookError):
        task.delay("a")
    (message,) = queue.messages()
    start = Ask(name=message.headers["dce"]["name"], task_id=first.id, token="worker", claim=60)
    assert claim_store().start(start).verdict is Verdict.FREE, "what a worker asks that takes the message"
