"""The ways by which a call can be made: the columns of the table."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import chain, chord, group
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.db import transaction

from django_celery_extensions.beat import LockedPersistentScheduler
from django_celery_extensions.slots import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.options.stage import Stage

    #: Does the rest of a call, after which the message is on its way.
    Send = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Door:
    """One way to call a task. *ready* does all but the last step, and returns that one."""

    name: str
    #: How it looks, for the table.
    means: str
    ready: Callable[[Stage, Any, tuple[Any, ...], dict[str, Any]], Send]
    #: Takes no options: those that the task declares are sent.
    declared: bool = False
    #: The task is made of a management command.
    command: bool = False
    #: What options are is written into another message before; an object can't be.
    written: bool = False
    #: An error of sending reaches the caller; else a worker, or beat, deals with it.
    raises: bool = True
    #: There is no message.
    here: bool = False

    def task(self, stage: Stage, *, unique: bool) -> Any:
        if self.command:
            return stage.commands[unique]
        return stage.unique if unique else stage.plain

    def args(self, key: str) -> tuple[Any, ...]:
        return ([key],) if self.command else (key,)


def delay(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.delay, *args)


def delay_on_commit(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return _at_commit(lambda: task.delay_on_commit(*args))


def delay_many(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.delay_many, [args])


def delay_many_on_commit(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return _at_commit(lambda: task.delay_many_on_commit([args]))


def apply_async(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.apply_async, args, **options)


def apply_async_on_commit(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return _at_commit(lambda: task.apply_async_on_commit(args, **options))


def apply_async_and_get_result(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    def send() -> None:
        with contextlib.suppress(CeleryTimeoutError):  # nobody works
            task.apply_async_and_get_result(args, timeout=0, **options)

    return send


def apply_async_many(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.apply_async_many, [(args, None)], **options)


def apply_async_many_on_commit(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return _at_commit(lambda: task.apply_async_many_on_commit([(args, None)], **options))


def _at_commit(call: Callable[[], Any]) -> Send:
    with contextlib.ExitStack() as stack:
        stack.enter_context(transaction.atomic())
        call()
        return stack.pop_all().close
    return None


def signature(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.s(*args).apply_async, **options)


def signature_set(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return task.si(*args).set(**options).delay  # type: ignore[no-any-return]


def signature_clone(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return task.s(*args).set(**options).clone().apply_async  # type: ignore[no-any-return]


def chain_member(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return _play(stage, chain(stage.first.si(stage.key()), task.si(*args).set(**options)).apply_async)


def group_member(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    members = group([task.si(*args).set(**options), stage.last.si(stage.key()).set(queue="aside")])
    return members.apply_async  # type: ignore[no-any-return]


def chord_header(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    header = [task.si(*args).set(**options), stage.last.si(stage.key()).set(queue="aside")]
    return partial(chord(header), stage.last.si(stage.key()))


def chord_body(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    header = [stage.first.si(stage.key()), stage.first.si(stage.key())]
    return _play(stage, partial(chord(header), task.si(*args).set(**options)), messages=2)


def link(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    signature = task.si(*args).set(**options)
    return _play(stage, partial(stage.first.apply_async, (stage.key(),), link=signature))


def retry(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    stage.acts[args[0]].insert(0, lambda running: running.retry(**options))
    return _play(stage, partial(task.apply_async, args))


def _play(stage: Stage, call: Send, messages: int = 1) -> Send:
    """Call, and do what a worker does with so many messages; what it does with the last one is the last step."""
    if stage.app.conf.task_always_eager:
        return call
    call()
    for _ in range(messages - 1):
        stage.perform(stage.take())
    return partial(stage.perform, stage.take())


def beat(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    scheduler = LockedPersistentScheduler(app=stage.app)
    scheduler.add(name=args[0], task=task.name, schedule=3600, args=args, options=options)

    def tick() -> None:
        try:
            while scheduler.tick() == 0:
                pass
            real = scheduler.clock.now
            scheduler.clock.now = lambda: real() + HOUR  # type: ignore[method-assign]
            while scheduler.tick() == 0:
                pass
        finally:
            scheduler.close()

    return tick


def apply(stage: Stage, task: Any, args: Any, options: Any) -> Send:
    return partial(task.apply, args, **options)


DOORS = [
    Door(name="delay", means="`task.delay(key)`, with what the task declares", ready=delay, declared=True),
    Door(name="delay_on_commit", means="the same, at the commit", ready=delay_on_commit, declared=True),
    Door(name="delay_many", means="`task.delay_many([(key,)])`", ready=delay_many, declared=True),
    Door(
        name="delay_many_on_commit",
        means="the same, at the commit",
        ready=delay_many_on_commit,
        declared=True,
    ),
    Door(name="apply_async", means="`task.apply_async((key,), …)`", ready=apply_async),
    Door(name="apply_async_on_commit", means="the same, at the commit", ready=apply_async_on_commit),
    Door(
        name="apply_async_and_get_result",
        means="the same, and waiting for the result",
        ready=apply_async_and_get_result,
    ),
    Door(
        name="apply_async_many", means="`task.apply_async_many([((key,), None)], …)`", ready=apply_async_many
    ),
    Door(
        name="apply_async_many_on_commit", means="the same, at the commit", ready=apply_async_many_on_commit
    ),
    Door(name="s().apply_async", means="`task.s(key).apply_async(…)`", ready=signature),
    Door(name="si().set().delay", means="`task.si(key).set(…).delay()`", ready=signature_set),
    Door(name="s().clone", means="`task.s(key).set(…).clone().apply_async()`", ready=signature_clone),
    Door(
        name="chain",
        means="`chain(other, task.si(key).set(…))`, sent by the worker that ran `other`",
        ready=chain_member,
        written=True,
        raises=False,
    ),
    Door(name="group", means="`group(task.si(key).set(…), other)`", ready=group_member),
    Door(name="chord header", means="`chord([task.si(key).set(…), other], body)`", ready=chord_header),
    Door(
        name="chord body",
        means="`chord([one, two], task.si(key).set(…))`, sent by the worker that ran the last of them",
        ready=chord_body,
        written=True,
        raises=False,
    ),
    Door(
        name="link",
        means="`other.apply_async(link=task.si(key).set(…))`, sent by the worker that ran `other`",
        ready=link,
        written=True,
        raises=False,
    ),
    Door(name="retry", means="`self.retry(…)` in the body", ready=retry, raises=False),
    Door(name="beat", means="`options` of an entry of `LockedPersistentScheduler`", ready=beat, raises=False),
    Door(
        name="command",
        means="`apply_async` of a task made of a management command",
        ready=apply_async,
        command=True,
    ),
    Door(
        name="apply",
        means="`task.apply((key,), …)`: what the request of the body says, which runs here",
        ready=apply,
        here=True,
    ),
]
