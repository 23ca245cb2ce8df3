"""The options: the rows of the table, each with how it is seen."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from amqp.exceptions import ChannelError
from celery import Signature
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from django_celery_extensions.timing import CLOCKS_DIFFER
from tests.options.rows import Arrives, Fails, Reuses, Row, RunsHere, Vanishes
from tests.options.stage import BINDINGS, DEFAULT, TASKS, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.options.stage import Arrival, Stage

TOMORROW = now().replace(microsecond=0) + timedelta(days=1)
YESTERDAY = TOMORROW - timedelta(days=2)
DAY_MS = 24 * 3600 * 1000

SAME_ID = "A retry is the same task, under the same id."
NO_SHARED_ID = "Many calls can't share one id: `InvalidOption`."
YAML = "Each member carries the body of its chord, which Celery can't write as YAML."


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def at(wanted: datetime) -> Any:
    return lambda text, _: moment(text) == wanted


def after(seconds: float) -> Any:
    """A time so many seconds after the call was sent: after the commit, where it waited for one."""

    def asked(text: str, arrival: Arrival) -> bool:
        return arrival.since <= moment(text) - timedelta(seconds=seconds) <= arrival.until

    return asked


def about_a_day(milliseconds: str, _: Any) -> bool:
    return 0 <= DAY_MS - int(milliseconds) < 300_000


def named(*tasks: str) -> Any:
    return lambda signatures, _: [each["task"] for each in signatures] == list(tasks)


def packed(content_type: str) -> Any:
    return lambda value, _: value == content_type


def header(name: str, value: Any, **more: Any) -> Row:
    """A row of an option that is a header of the message under its own name."""
    return Arrives(
        name=name, given=f"{name}={value!r}", options={name: value}, seen={f"header {name}": value}, **more
    )


def serialized(name: str, content_type: str, given: str | None = None, **more: Any) -> Row:
    return Arrives(
        **more,
        name=f"serializer {name}",
        given=f"serializer={name!r}{given or ''}",
        options={"serializer": name},
        declared=True,
        seen={"content_type": content_type},
    )


def compressed(name: str, content_type: str) -> Row:
    return Arrives(
        name=f"compression {name}",
        given=f"compression={name!r}",
        options={"compression": name},
        declared=True,
        seen={"header compression": content_type},
    )


def topic(routing_key: str, queue: str) -> Row:
    return Arrives(
        name=f"topic {BINDINGS[queue]}",
        given=f'exchange="tasks", routing_key={routing_key!r}',
        options={"exchange": "tasks", "routing_key": routing_key},
        declared=True,
        queue=queue,
        seen={"queue": queue, "exchange": "tasks", "routing_key": routing_key},
        here={"exchange": "tasks", "routing_key": routing_key},
    )


# Worlds in which a call is made.


@contextlib.contextmanager
def cut(stage: Stage) -> Iterator[None]:
    """The connection that the app keeps was reset."""
    stage.connect()
    stage.proxy.cut()
    yield


def silent(stage: Stage) -> AbstractContextManager[None]:
    """The app has no connection yet, and the broker does not answer."""
    stage.forget()
    return stage.proxy.silent()


def hanging_up(stage: Stage) -> AbstractContextManager[None]:
    """The app has no connection yet, and the broker throws out whoever comes."""
    stage.forget()
    return stage.proxy.hanging_up()


OWN_PRODUCER = "A group sends its members by a producer of its own."
BEATS_PRODUCER = "Beat sends by a producer of its own."
NO_COPY = "A clone has copies of the options, and it can't be copied."
WORKER_RETRIES = "The worker sends it, and Celery tries that again by rules of its own."
CALLERS = "The worker says which task it came from."
KEPT = {
    "s().clone": NO_COPY,
    "group": OWN_PRODUCER,
    "chord header": OWN_PRODUCER,
    "beat": BEATS_PRODUCER,
}
OWN_RULES = {
    **dict.fromkeys(("chain", "chord body", "link"), WORKER_RETRIES),
    "beat": BEATS_PRODUCER,
}
#: A project whose only exchange is a topic exchange, as in the routing guide.
ROUTED = {
    "TASK_QUEUES": [
        Queue(DEFAULT, TASKS, DEFAULT),
        *(Queue(name, TASKS, key) for name, key in BINDINGS.items()),
    ],
    "TASK_DEFAULT_EXCHANGE": "tasks",
    "TASK_DEFAULT_EXCHANGE_TYPE": "topic",
    "TASK_DEFAULT_ROUTING_KEY": DEFAULT,
}
AT_ONCE = {"max_retries": 2, "interval_start": 0, "interval_step": 0, "interval_max": 0}
LOST = (OperationalError, OSError)

OPTIONS: list[Row] = [
    Arrives(
        name="countdown", given="countdown=60", options={"countdown": 60}, seen={"header eta": after(60)}
    ),
    Arrives(
        name="no countdown",
        given="no option",
        declared=True,
        seen={"header eta": None, "header expires": None},
        without={"retry": "A retry waits for `default_retry_delay`."},
    ),
    Arrives(
        name="eta aware",
        given="eta=<aware>",
        options={"eta": TOMORROW.astimezone(ZoneInfo("Asia/Tokyo"))},
        seen={"header eta": at(TOMORROW)},
    ),
    Arrives(
        name="eta naive",
        given="eta=<naive>",
        options={"eta": TOMORROW.replace(tzinfo=None)},
        seen={"header eta": at(TOMORROW)},
    ),
    Arrives(
        name="eta past", given="eta=<past>", options={"eta": YESTERDAY}, seen={"header eta": at(YESTERDAY)}
    ),
    Arrives(
        name="expires number",
        given="expires=86400",
        options={"expires": 86400},
        declared=True,
        seen={"header expires": after(86400), "property expiration": about_a_day},
    ),
    Arrives(
        name="expires datetime",
        given="expires=<datetime>",
        options={"expires": TOMORROW},
        declared=True,
        seen={"header expires": at(TOMORROW), "property expiration": about_a_day},
    ),
    serialized("json", "application/json"),
    serialized("pickle", "application/x-python-serialize"),
    serialized("yaml", "application/x-yaml", without={"chord header": YAML}),
    serialized("msgpack", "application/x-msgpack"),
    serialized("shout", "application/x-shout", ", of the project's own"),
    compressed("gzip", "application/x-gzip"),
    compressed("zlib", "application/x-gzip"),
    compressed("bzip2", "application/x-bz2"),
    compressed("lzma", "application/x-lzma"),
    Reuses(name="connection", given="connection=<kombu.Connection>", without=KEPT),
    Reuses(name="producer", given="producer=<kombu.Producer>", without=KEPT),
    Fails(
        name="connect_timeout",
        given="connect_timeout=0.05",
        options={"connect_timeout": 0.05, "retry": False},
        errors=LOST,
        world=silent,
        shown="a broker that does not answer is an error at once",
        without=OWN_RULES,
    ),
    Arrives(
        name="retry",
        given="retry=True",
        options={"retry": True},
        world=cut,
        seen={"queue": "celery"},
        without={"beat": BEATS_PRODUCER},
    ),
    Fails(
        name="no retry",
        given="retry=False",
        options={"retry": False},
        errors=LOST,
        world=cut,
        shown="a connection that was lost is an error",
        without=OWN_RULES,
    ),
    Fails(
        name="retry_policy",
        given='retry_policy={"max_retries": 2, …}',
        options={"retry": True, "retry_policy": AT_ONCE},
        errors=LOST,
        world=hanging_up,
        attempts=3,
        shown="a broker that hangs up is asked three times",
        without=OWN_RULES,
    ),
    Arrives(
        name="queue",
        given='queue="other"',
        options={"queue": "other"},
        declared=True,
        queue="other",
        seen={"queue": "other"},
    ),
    Arrives(
        name="kombu.Queue",
        given='queue=kombu.Queue("other", …)',
        options={"queue": Queue("other", Exchange("other", "direct"), "other")},
        is_object=True,
        declared=True,
        queue="other",
        seen={"queue": "other"},
    ),
    topic("video.compress", "video"),
    topic("image.rotate", "image"),
    topic("misc.recommend", "lowpri"),
    Arrives(
        name="routing_key",
        given='routing_key="image.crop"',
        options={"routing_key": "image.crop"},
        declared=True,
        conf=ROUTED,
        queue="image.crop",
        seen={"queue": "image.crop", "exchange": "tasks", "routing_key": "image.crop"},
    ),
    Arrives(
        name="kombu.Exchange",
        given='exchange=kombu.Exchange("tasks", "topic"), routing_key="video.cut"',
        options={"exchange": TASKS, "routing_key": "video.cut"},
        is_object=True,
        declared=True,
        queue="video",
        seen={"queue": "video", "exchange": "tasks", "routing_key": "video.cut"},
    ),
    Arrives(
        name="priority 0",
        given="priority=0",
        options={"priority": 0},
        declared=True,
        seen={"property priority": 0},
        here={"priority": 0},
    ),
    Arrives(
        name="priority 9",
        given="priority=9",
        options={"priority": 9},
        declared=True,
        seen={"property priority": 9},
        here={"priority": 9},
    ),
    Arrives(
        name="delivery_mode",
        given="delivery_mode=1",
        options={"delivery_mode": 1},
        declared=True,
        seen={"property delivery_mode": 1},
    ),
    Arrives(
        name="mandatory",
        given="mandatory=True",
        options={"mandatory": True},
        declared=True,
        seen={"queue": "celery"},
    ),
    Fails(
        name="mandatory unroutable",
        given='mandatory=True, exchange="tasks", routing_key="nowhere"',
        options={"mandatory": True, "exchange": "tasks", "routing_key": "nowhere"},
        declared=True,
        errors=(ChannelError,),
        shown="an error of this very call",
    ),
    Arrives(
        name="headers",
        given='headers={"who": "ada"}',
        options={"headers": {"who": "ada"}},
        seen={"header who": "ada"},
        here={"headers": lambda value, _: value["who"] == "ada"},
    ),
    header("shadow", "other.name"),
    header(
        "ignore_result",
        True,
        declared=True,
        here={"ignore_result": True},
        without={"apply_async_and_get_result": "There is no result to wait for: `ResultBackendMissing`."},
    ),
    Arrives(
        name="time limits",
        given="time_limit=50, soft_time_limit=40",
        options={"time_limit": 50, "soft_time_limit": 40},
        declared=True,
        seen={"header timelimit": [50, 40]},
    ),
    Arrives(
        name="reply_to", given='reply_to="me"', options={"reply_to": "me"}, seen={"property reply_to": "me"}
    ),
    Arrives(
        name="stamps",
        given='stamped_headers=["who"], who="ada"',
        options={"stamped_headers": ["who"], "who": "ada"},
        seen={"header stamps": {"who": "ada"}, "header stamped_headers": ["who"]},
        here={"stamps": {"who": ["ada"]}},
    ),
    Arrives(
        name="link",
        given="link=add.si(1, 2)",
        options={"link": Signature("options.last", ("linked",), immutable=True)},
        seen={"embed callbacks": named("options.last")},
        here={"callbacks": named("options.last")},
    ),
    Arrives(
        name="link_error",
        given="link_error=add.si(1, 2)",
        options={"link_error": Signature("options.last", ("linked",), immutable=True)},
        seen={"embed errbacks": named("options.last")},
        here={"errbacks": named("options.last")},
    ),
    Arrives(
        name="task_id",
        given='task_id="…"',
        options={"task_id": "my-own"},
        seen={"header id": "my-own", "property correlation_id": "my-own"},
        without={
            "retry": SAME_ID,
            **dict.fromkeys(("apply_async_many", "apply_async_many_on_commit"), NO_SHARED_ID),
        },
    ),
    header("root_id", "the-root", without=dict.fromkeys(("chain", "link"), CALLERS)),
    header("parent_id", "the-parent", without=dict.fromkeys(("chain", "link"), CALLERS)),
    header("argsrepr", "(***)"),
    Arrives(
        name="AMQP properties",
        given='app_id="shop", message_id="7"',
        options={"app_id": "shop", "message_id": "7"},
        seen={"property app_id": "shop", "property message_id": "7"},
    ),
    Vanishes(
        name="expires past",
        given="expires=<past>",
        options={"expires": YESTERDAY},
        declared=True,
        within=CLOCKS_DIFFER,
        shown="the broker drops it, and the key is free",
    ),
    Arrives(
        name="task_protocol 2",
        given="task_protocol = 2",
        declared=True,
        conf={"TASK_PROTOCOL": 2},
        seen={"protocol": 2},
        performed=True,
    ),
    Arrives(
        name="task_protocol 1",
        given="task_protocol = 1",
        declared=True,
        conf={"TASK_PROTOCOL": 1},
        seen={"protocol": 1},
        performed=True,
    ),
    RunsHere(
        name="task_always_eager",
        given="task_always_eager = True",
        declared=True,
        conf={"TASK_ALWAYS_EAGER": True},
        here={},
        stored=False,
        without={"command": "As `apply_async`."},
    ),
    RunsHere(
        name="task_store_eager_result",
        given="task_store_eager_result = True",
        declared=True,
        conf={"TASK_ALWAYS_EAGER": True, "TASK_STORE_EAGER_RESULT": True},
        here={},
        stored=True,
        without={"command": "As `apply_async`."},
    ),
]
