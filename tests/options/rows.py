"""What can be told of an option: that it arrives, that connections are reused, that a call fails, that it runs here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from celery.result import EagerResult
from kombu import Producer

from django_celery_extensions.exceptions import ManyNotSent
from django_celery_extensions.invocation import HEADER
from tests.options.stage import DEFAULT, Arrival, forget_claim, now, of_message
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.options.doors import Door
    from tests.options.stage import Stage

#: What is wrong with the world while a call is made.
World = Callable[["Stage"], contextlib.AbstractContextManager[Any]]

#: Why a door is left out.
CALL_ONLY = "A call gives it, a task can't declare it."
OBJECT = "The options are written into another message; an object can't be."
NO_MESSAGE = "Nothing is sent."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One option, with a value; *play* sends a call with it through a door and looks what comes of it."""

    name: str
    #: Code that a caller writes.
    given: str
    options: Mapping[str, Any] = field(default_factory=dict)
    #: A task can declare it.
    declared: bool = False
    #: The value is an object of this process.
    is_object: bool = False
    #: What the request of a body that runs here says of it.
    here: Mapping[str, Any] | None = None
    #: Settings of Celery, where it is one.
    conf: Mapping[str, Any] = field(default_factory=dict)
    #: Doors that make no sense, and why.
    without: Mapping[str, str] = field(default_factory=dict)

    #: How it is seen, for the table.
    @property
    def how(self) -> str:
        raise NotImplementedError

    def reason(self, door: Door) -> str | None:
        """Return why there is no such cell; None: there is one."""
        if door.name in self.without:
            return self.without[door.name]
        if door.declared and not self.declared:
            return CALL_ONLY
        if door.written and self.is_object:
            return OBJECT
        if door.here and self.here is None:
            return NO_MESSAGE
        return None

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def called(self, stage: Stage, door: Door, *, unique: bool) -> Any:
        """Yield the task and its arguments; nobody holds its key afterwards."""
        declared = self.options if door.declared else {}
        anew = declared or isinstance(
            self, RunsHere
        )  # what its configuration says, a task reads when it is declared
        if anew:
            task = stage.declare("declared", unique=unique, **declared)
        else:
            task = door.task(stage, unique=unique)
        args = door.args(stage.key())
        try:
            yield task, args
        finally:
            if unique:
                forget_claim(task, args)
            if anew:
                del stage.app.tasks[task.name]


@dataclass(frozen=True, kw_only=True)
class Arrives(Row):
    """A message comes to a queue and says what was asked for; a body that runs here is told."""

    #: Places in the message, and what is there: a value, or a question about it.
    seen: Mapping[str, Any]
    queue: str = DEFAULT
    #: What is wrong with the world meanwhile.
    world: World | None = None
    #: A worker takes the message, after which nobody holds the key.
    performed: bool = False

    @property
    def how(self) -> str:
        return ", ".join(f"`{place}`" for place in self.seen)

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        with contextlib.ExitStack() as stack:
            if self.conf or self.world is not None:
                stack.enter_context(stage.configured(proxied=self.world is not None, **self.conf))
            task, args = stack.enter_context(self.called(stage, door, unique=unique))
            if door.here:
                self.play_here(stage, task, args)
                return
            send = door.ready(stage, task, args, dict(self.options))
            if self.world is not None:
                stack.enter_context(self.world(stage))
            since = now()
            send()
            arrival = Arrival(message=stage.take(self.queue), queue=self.queue, since=since, until=now())
            assert arrival.headers["task"] == task.name
            assert list(arrival.args) == list(args)
            for place, wanted in self.seen.items():
                check(place, arrival.look(place), wanted, arrival)
            if unique:
                header = arrival.headers[HEADER]
                assert header["id"] == arrival.headers["id"]
                assert header["claimed"]
                assert task.is_processing(args)
            if self.performed:
                value = stage.perform(arrival.message)
                assert door.command or value == args[0]
                if unique:
                    assert not task.is_processing(args)

    def play_here(self, stage: Stage, task: Any, args: Any) -> None:
        told: dict[str, Any] = {}

        def act(running: Any) -> None:
            request = running.request
            told.update(request.delivery_info, **vars(request))

        stage.acts[args[0]].append(act)
        assert isinstance(task.apply(args, **self.options), EagerResult)
        for name, wanted in (self.here or {}).items():
            check(name, told.get(name), wanted, None)
        if "link" in self.options:
            assert of_message(stage.take())[1]["task"] == self.options["link"].task


def check(place: str, value: Any, wanted: Any, arrival: Arrival | None) -> None:
    if isinstance(wanted, Callable):  # type: ignore[arg-type]
        assert wanted(value, arrival), f"{place}: {value!r}"
    else:
        assert value == wanted, f"{place}: {value!r}, not {wanted!r}"


@dataclass(frozen=True, kw_only=True)
class Reuses(Row):
    """Many calls use what they are given, and open no connection of their own."""

    CALLS = 3
    is_object: bool = True

    @property
    def how(self) -> str:
        return f"{self.CALLS} calls, no new connection"

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        sends = []
        with (
            contextlib.ExitStack() as stack,
            stage.configured(proxied=True),
            stage.connection() as connection,
        ):
            value = connection if self.name == "connection" else Producer(connection, auto_declare=False)
            for _ in range(self.CALLS):
                task, args = stack.enter_context(self.called(stage, door, unique=unique))
                sends.append(door.ready(stage, task, args, {self.name: value}))
            connection.ensure_connection()
            before = stage.proxy.accepted
            for send in sends:
                send()
            for _ in sends:
                stage.take()
            assert stage.proxy.accepted == before


@dataclass(frozen=True, kw_only=True)
class Fails(Row):
    """Nothing arrives: the caller is told, and nobody holds the key."""

    errors: tuple[type[Exception], ...]
    shown: str
    world: World | None = None
    #: Seconds within which the caller is told.
    within: float = 2.0
    #: How many connections are opened.
    attempts: int | None = None

    @property
    def how(self) -> str:
        return self.shown

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        with contextlib.ExitStack() as around:
            if self.world is not None:
                around.enter_context(stage.configured(proxied=True))
            task, args = around.enter_context(self.called(stage, door, unique=unique))
            send = door.ready(stage, task, args, dict(self.options))
            with contextlib.ExitStack() as stack:
                if self.world is not None:
                    stack.enter_context(self.world(stage))
                accepted, since = stage.proxy.accepted, now()
                if door.raises:
                    stack.enter_context(raises(self.errors))
                send()
            assert (now() - since).total_seconds() < self.within
            if self.attempts is not None:
                assert stage.proxy.accepted - accepted == self.attempts
            assert not stage.waiting()
            if unique:
                assert not task.is_processing(args)


@contextlib.contextmanager
def raises(errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """One of the errors is raised, or is the cause why not all of many calls were sent."""
    with pytest.raises((*errors, ManyNotSent)) as caught:
        yield
    assert isinstance(caught.value, errors) or isinstance(caught.value.__cause__, errors)


@dataclass(frozen=True, kw_only=True)
class Vanishes(Row):
    """The broker takes the message and drops it, and tells nobody: the claim ends by itself."""

    shown: str
    #: Seconds after which the key is free at the latest.
    within: float

    @property
    def how(self) -> str:
        return self.shown

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        with self.called(stage, door, unique=unique) as (task, args):
            door.ready(stage, task, args, dict(self.options))()
            wait_until(lambda: not stage.waiting(), 2, "the broker has dropped it")
            if unique:
                assert 0 < stage.claimed_for(task, args) <= self.within


@dataclass(frozen=True, kw_only=True)
class RunsHere(Row):
    """The body runs where the call is made, and nothing is sent."""

    stored: bool

    @property
    def how(self) -> str:
        return f"the body has run, its result is {'' if self.stored else 'not '}stored, nothing was sent"

    def play(self, stage: Stage, door: Door, *, unique: bool) -> None:
        with stage.configured(**self.conf), self.called(stage, door, unique=unique) as (task, args):
            ids: list[str] = []

            def act(running: Any) -> str:
                assert running.request.is_eager
                ids.append(running.request.id)
                return str(args[0])

            stage.acts[args[0]].append(act)
            door.ready(stage, task, args, {})()
            if unique:
                assert not task.is_processing(args)
            assert not stage.waiting()
        (task_id,) = ids
        stored = stage.app.backend.get_task_meta(task_id)["status"]
        assert stored == ("SUCCESS" if self.stored else "PENDING")
