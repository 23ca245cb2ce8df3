"""What one call costs, as a ratio to a call of a plain `celery.Task` in the same run.

`python -m benchmarks.enqueue` prints a table. The ways of calling take turns in short blocks, so that what else the
machine does falls on all of them; ratios are medians of the ratios within a round. `--profile ours` prints where the
time of one of them goes instead, and `--count` how many Python calls each makes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import os
import pstats
import random
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from time import perf_counter, thread_time
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

#: The caches to choose from, by the name of the option `--cache`.
BACKENDS = {
    "django": "django.core.cache.backends.redis.RedisCache",
    "django-redis": "django_redis.cache.RedisCache",
}


class Calls:
    """The ways of calling; each method is one call."""

    def __init__(self, redis_url: str, cache: str, *, results: bool, django_settings: bool = True) -> None:
        import django
        from celery import Celery, Task

        module = ModuleType("benchmark_settings")
        vars(module).update(
            INSTALLED_APPS=["django_celery_extensions"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            CACHES={"default": {"BACKEND": BACKENDS[cache], "LOCATION": f"{redis_url}/1"}},
            USE_TZ=True,
            SECRET_KEY="benchmark",  # noqa: S106
            CELERY_BROKER_URL=f"{redis_url}/0",
            CELERY_TASK_IGNORE_RESULT=True,
            CELERY_RESULT_BACKEND=f"{redis_url}/2" if results else None,
        )
        sys.modules[module.__name__] = module
        os.environ["DJANGO_SETTINGS_MODULE"] = module.__name__
        django.setup()
        app = Celery("benchmark", set_as_current=True)
        if django_settings:
            app.config_from_object("django.conf:settings", namespace="CELERY")
        else:
            app.conf.update(
                {
                    name[7:].lower(): value
                    for name, value in vars(module).items()
                    if name.startswith("CELERY_")
                }
            )

        from django.core.cache import caches
        from django.db import transaction
        from redis import Redis

        from django_celery_extensions.stores import claim_store
        from django_celery_extensions.stores.base import Ask
        from django_celery_extensions.task import DjangoTask

        self._Ask, self._claim_store, self._atomic = Ask, claim_store, transaction.atomic
        self._server = Redis.from_url(redis_url)
        self._cache = caches["default"]
        self._numbers = count(1)

        def task(name: str, base: Any, **options: Any) -> Any:
            def body(order: int, text: str = "text") -> None:
                pass

            return app.task(body, name=f"benchmark.{name}", base=base, **options)

        self._plain = task("plain", Task)
        self._ours = task("ours", DjangoTask)
        self._unique = task("unique", DjangoTask, unique=True)
        self._window = task("window", DjangoTask, ignore_task_after_success=True, ignore_task_timedelta=3600)
        app.finalize()

    def begin(self) -> None:
        """Empty the queue; one claim and one window are there, and no other."""
        self._server.flushall()
        self._unique.delay(0, text="text")
        self._window.apply((0,), {"text": "text"})
        self._server.delete("celery")
        for each in WAYS:
            getattr(self, each)()

    def plain(self) -> None:
        self._plain.delay(next(self._numbers), text="text")

    def ours(self) -> None:
        self._ours.delay(next(self._numbers), text="text")

    def unique_free(self) -> None:
        self._unique.delay(next(self._numbers), text="text")

    def unique_duplicate(self) -> None:
        self._unique.delay(0, text="text")

    def ignored(self) -> None:
        self._window.delay(0, text="text")

    def on_commit(self) -> None:
        with self._atomic():
            self._ours.delay_on_commit(next(self._numbers), text="text")

    def empty_transaction(self) -> None:
        with self._atomic():
            pass

    def admit_alone(self) -> None:
        """What our script costs by itself, without a call around it."""
        self._claim_store().admit(self._Ask(name="alone", task_id=str(next(self._numbers)), claim=60.0))

    def evalsha(self) -> None:
        """The floor of any script."""
        self._server.evalsha(self._nothing, 0)

    def lpush(self) -> None:
        """The floor of publishing."""
        self._server.lpush("celery", "x" * 900)

    @property
    def _nothing(self) -> str:
        sha = self.__dict__.get("_sha")
        if sha is None:
            sha = self.__dict__["_sha"] = str(self._server.script_load("return 1"))
        return sha


#: The ways that are measured, in the order of the table.
WAYS = "plain ours unique_free unique_duplicate ignored on_commit empty_transaction admit_alone evalsha lpush".split()


@dataclass
class Figures:
    """What was measured of one way, in seconds, round by round."""

    calls: list[list[float]] = field(default_factory=list)
    #: Time of the processor that each call took from this process: what is left when nobody else uses the machine.
    busy: list[float] = field(default_factory=list)


def measure(calls: Calls, ways: list[str], rounds: int, block: int) -> dict[str, Figures]:
    """Let the ways take turns."""
    chance = random.Random(1)  # noqa: S311 - an order, no secrets
    figures: dict[str, Figures] = defaultdict(Figures)
    order = list(ways)
    gc.disable()
    for number in range(rounds):
        if number % 10 == 0:
            calls.begin()
            gc.collect()
        chance.shuffle(order)
        for way in order:
            call: Callable[[], None] = getattr(calls, way)
            taken = []
            busy = thread_time()
            for _ in range(block):
                began = perf_counter()
                call()
                taken.append(perf_counter() - began)
            figures[way].busy.append((thread_time() - busy) / block)
            figures[way].calls.append(taken)
    gc.enable()
    return figures


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def table(ways: list[str], figures: dict[str, Figures]) -> list[str]:
    """Return the rows."""
    lines = ["| call | median µs | p99 µs | x plain | CPU µs | x plain |", "|---|--:|--:|--:|--:|--:|"]
    plain = figures["plain"]
    for way in ways:
        found = figures[way]
        everything = [taken for each in found.calls for taken in each]
        ratio = median(median(a) / median(b) for a, b in zip(found.calls, plain.calls, strict=True))
        busy = median(a / b for a, b in zip(found.busy, plain.busy, strict=True))
        cells = [
            way.replace("_", " "),
            f"{median(everything) * 1e6:.0f}",
            f"{percentile(everything, 0.99) * 1e6:.0f}",
            f"{ratio:.3f}",
            f"{median(found.busy) * 1e6:.0f}",
            f"{busy:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def profiled(call: Callable[[], None], times: int) -> pstats.Stats:
    """Return the profile of so many calls."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(times):
        call()
    profile.disable()
    return pstats.Stats(profile, stream=io.StringIO())


def profile_of(call: Callable[[], None], times: int, top: int) -> str:
    """Return where the time goes: the functions at the top, by own time and with what they call."""
    found = profiled(call, times)
    out = found.stream = io.StringIO()  # type: ignore[attr-defined]
    found.strip_dirs().sort_stats("tottime").print_stats(top)
    found.sort_stats("cumulative").print_stats(top)
    return out.getvalue()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enqueue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--block", type=int, default=25, help="calls of each way in each round (25)")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--cache", choices=BACKENDS, default="django")
    parser.add_argument("--results", action="store_true", help="with a result backend (and ignore_result)")
    parser.add_argument(
        "--app-conf", action="store_true", help="Celery is configured by app.conf, not by Django's settings"
    )
    parser.add_argument("--profile", choices=WAYS)
    parser.add_argument("--count", action="store_true", help="count Python calls instead of time")
    given = parser.parse_args()
    with RedisServer() as server:
        calls = Calls(
            server.url.rpartition("/")[0],
            given.cache,
            results=given.results,
            django_settings=not given.app_conf,
        )
        calls.begin()
        if given.profile:
            print(profile_of(getattr(calls, given.profile), 2000, 25))
        elif given.count:
            for way in given.ways:
                print(way, profiled(getattr(calls, way), 500).total_calls // 500)  # type: ignore[attr-defined]
        else:
            ways = ["plain", *(way for way in given.ways if way != "plain")]
            print("\n".join(table(ways, measure(calls, ways, given.rounds, given.block))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
