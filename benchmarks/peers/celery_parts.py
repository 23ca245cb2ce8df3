"""What every peer that is a task class of Celery has in common."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .base import calling, marking, repeating, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Measure, Servers

CELERY = ("celery[redis]==5.7.*",)
WITH_DJANGO = (*CELERY, "django>=5.2,<5.3", "django-redis")
#: The import that every peer starts from, so that each is charged only what it brings.
IMPORTS = (
    "import celery.app.base, celery.app.task, celery.app.amqp, celery.result, kombu.transport.redis, redis"
)


def body(number: int, text: str = "") -> None:
    """Do nothing: the body of every task here."""


def make_app(servers: Servers, kind: Any = None, **conf: Any) -> Any:
    """Return an app that sends to the peer's broker and keeps no results, with a task that marks when it runs."""
    if kind is None:
        from celery import Celery as kind  # noqa: N813
    app = kind("bench")
    app.conf.update(broker_url=servers.broker, task_ignore_result=True, timezone="UTC", **conf)

    app.task(name="bench.mark")(marking(servers))
    return app


def django(servers: Servers, *apps: str, cache: str = "django_redis.cache.RedisCache", **more: Any) -> None:
    """Make this process a Django project with a database in memory, and its cache in the store.

    Its settings are a module, as those of projects are: what ``settings.configure()`` makes is slower to read. Celery
    finds it, and does for every task what it does in a Django project.
    """
    import django as package

    module = ModuleType("bench_settings")
    vars(module).update(
        CACHES={"default": {"BACKEND": cache, "LOCATION": servers.store}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=list(apps),
        SECRET_KEY="only for benchmarks",  # noqa: S106 - protects nothing
        USE_TZ=True,
        **more,
    )
    sys.modules[module.__name__] = module
    os.environ["DJANGO_SETTINGS_MODULE"] = module.__name__
    package.setup()


# --- calls -----------------------------------------------------------------------------------------------------


def plain_calls(task: Any) -> dict[str, Measure]:
    """Return the measure of a call of a task that is neither unique nor ignored."""
    return {"enqueue.not_unique": calling(one(task.delay))}


def unique_calls(task: Any, error: type[Exception] | tuple[()] = ()) -> dict[str, Measure]:
    """Return those of a unique task; ``error`` is what a duplicate raises."""

    def call(value: Any) -> None:
        try:  # noqa: SIM105 - contextlib.suppress would cost a microsecond
            task.delay(value, text="text")
        except error:
            pass

    return {"enqueue.free": calling(call), "enqueue.duplicate": repeating(call)}


def ignored_calls(task: Any, open_window: Callable[[Any], Any]) -> dict[str, Measure]:
    """Return that of a call within an ignore window."""
    return {"enqueue.ignored": repeating(one(task.delay), open_window)}


def commit_calls(delay: Callable[..., Any]) -> dict[str, Measure]:
    """Return those of a call within a transaction of its own, and of many in one; their commit is part of it."""
    from django.db import transaction

    call = one(delay)

    def alone(value: Any) -> None:
        with transaction.atomic():
            call(value)

    def empty(_: Any) -> None:
        with transaction.atomic():
            pass

    def all_in_one(values: list[Any]) -> None:
        with transaction.atomic():
            for value in values:
                call(value)

    return {
        "enqueue.transaction": calling(empty),
        "enqueue.on_commit": calling(alone),
        "enqueue.on_commit_1000": together(all_in_one),
    }


def one(delay: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a call with the arguments of all calls here."""
    return lambda value: delay(value, text="text")


def looped(delay: Callable[..., Any]) -> Callable[[list[Any]], None]:
    """Return many of them, one after the other."""
    call = one(delay)

    def calls(values: list[Any]) -> None:
        for value in values:
            call(value)

    return calls


# --- a worker --------------------------------------------------------------------------------------------------


def filling(app: Any, **tasks: Any) -> dict[str, Measure]:
    """Return measures that fill the queue for a worker: ``worker.NAME`` with messages of that task, between two marks."""

    def fill(task: Any) -> Measure:
        def measure(calls: int) -> None:
            app.tasks["bench.mark"].delay()
            looped(task.delay)(list(range(calls)))
            app.tasks["bench.mark"].delay()

        return measure

    return {f"worker.{name}": fill(task) for name, task in tasks.items()}


def work(app: Any) -> None:
    """Be a worker with one child until killed."""
    options = ["--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"]
    app.worker_main(["worker", *options, "--without-gossip", "--without-mingle", "--without-heartbeat"])
    sys.exit(0)
