"""docs/moving/: the code before and the code after, side by side on one broker, and what is said to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from celery import _state
from celery.beat import Scheduler
from django.core.cache import cache
from django.db import transaction
from kombu import Connection
from kombu.exceptions import OperationalError

from django_celery_extensions import locks
from django_celery_extensions.exceptions import UniqueTaskConflict
from tests.processes import ROOT
from tests.servers import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.live import Live

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:celery_once"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]

#: Code for 0.0.38 stays as it is; its page lists what changes.
PAGES = sorted(set((ROOT / "docs" / "moving").glob("*.md")) - {ROOT / "docs/moving/from-0.0.38.md"})
BLOCK = re.compile(r"^```python\n# (before|after)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Pair(NamedTuple):
    """The namespaces that the two sides of a page leave."""

    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture
def page_of(live_app: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Pair]]:
    """Runs the code of a page. Its tasks are those of the test app, and gone with the test."""
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    app = live_app.app
    known = set(app.tasks)

    def run(page: str) -> Pair:
        pair = Pair({"__name__": f"{page}_before"}, {"__name__": f"{page}_after"})
        blocks = BLOCK.findall((ROOT / "docs" / "moving" / f"from-{page}.md").read_text())
        for side, code in blocks:
            exec(compile(code, f"{page}, {side}", "exec"), getattr(pair, side))  # noqa: S102 - our own page
        return pair

    yield run
    app.set_current()  # a page may have made an app of its own
    for name in set(app.tasks) - known:
        del app.tasks[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_code_that_runs(page: Any, page_of: Callable[[str], Pair]) -> None:
    page_of(page.stem.removeprefix("from-"))


def is_sent(live: Live, call: Callable[[], Any]) -> bool:
    """Whether a call is sent, and not answered as a duplicate."""
    before = live.queued()
    call()
    return live.queued() == before + 1


def fail_to_publish(task: Any, *args: Any) -> None:
    """Call a task whose broker is away."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with (
        Connection(nowhere, transport_options={"max_retries": 1}) as connection,
        pytest.raises(OperationalError),
    ):
        task.apply_async(args, connection=connection, retry=False)


def retry(task: Any, *args: Any) -> None:
    """Do what the body of a running task does to be retried."""
    task.push_request(id=str(uuid4()), args=args, kwargs={}, called_directly=False, delivery_info={})
    try:
        task.retry(throw=False, countdown=0)
    finally:
        task.pop_request()


class TestCeleryOnce:
    @pytest.fixture(autouse=True)
    def configuration_of_old(self, live_app: Live) -> None:
        from celery_once.backends import redis

        redis.redis = None  # it keeps the client of the last test
        url = live_app.store.url
        live_app.app.conf.ONCE = {"backend": "celery_once.backends.Redis", "settings": {"url": url}}

    def test_duplicates(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-once")
        old, new = before["send_digest"], after["send_digest"]
        old.delay(1)
        assert old.delay(user_pk=1).id is None
        first = new.delay(1)
        assert new.delay(user_pk=1, requested_by="ada").id == first.id
        assert live_app.queued() == 2
        with pytest.raises(UniqueTaskConflict, match=first.id):
            new.apply_async((1,), unique_on_conflict="raise")

    def test_publish_that_fails(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-once")
        for side in (before, after):
            fail_to_publish(side["send_digest"], 1)
        assert not is_sent(live_app, lambda: before["send_digest"].delay(1))
        assert is_sent(live_app, lambda: after["send_digest"].delay(1))

    def test_claim_of_another_call(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-once")
        for side in (before, after):
            side["send_digest"].delay(1)
        before["send_digest"].apply((1,))
        assert is_sent(live_app, lambda: before["send_digest"].delay(1))
        after["send_digest"].apply((1,))
        assert not is_sent(live_app, lambda: after["send_digest"].delay(1))


class TestCelerySingleton:
    @pytest.fixture(autouse=True)
    def configuration_of_old(self, live_app: Live) -> None:
        live_app.app.conf.singleton_backend_url = live_app.store.url

    def test_duplicates(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        for side in page_of("celery-singleton"):
            first = side["send_digest"].delay(1)
            assert side["send_digest"].delay(user_pk=1, requested_by="ada").id == first.id
        assert live_app.queued() == 2

    def test_retry(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-singleton")
        old, new = before["send_digest"], after["send_digest"]
        old.delay(1)
        assert not is_sent(live_app, lambda: retry(old, 1))
        new.delay(1)
        assert is_sent(live_app, lambda: retry(new, 1))


class TestCeleryHeimdall:
    @pytest.fixture(autouse=True)
    def configuration_of_old(self, live_app: Live) -> None:
        live_app.app.conf.heimdall_unique_lock_timeout = 0.1  # how long a duplicate waits; 1 s as it comes

    def test_duplicates(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-heimdall")
        for side in (before, after):
            first = side["send_digest"].delay(1)
            assert side["send_digest"].delay(1).id == first.id
        assert is_sent(live_app, lambda: before["send_digest"].delay(user_pk=1))
        assert not is_sent(live_app, lambda: after["send_digest"].delay(user_pk=1))

    def test_publish_that_fails(self, page_of: Callable[[str], Pair], live_app: Live) -> None:
        before, after = page_of("celery-heimdall")
        for side in (before, after):
            fail_to_publish(side["send_digest"], 1)
        assert not is_sent(live_app, lambda: before["send_digest"].delay(1))
        assert is_sent(live_app, lambda: after["send_digest"].delay(1))


def test_delay_on_commit(page_of: Callable[[str], Pair], live_app: Live, transactional_db: None) -> None:
    before, after = page_of("delay-on-commit")
    assert before["sign_up"](1) is None
    assert after["sign_up"](1)
    assert live_app.queued() == 2
    with transaction.atomic():
        assert before["notify"].delay_on_commit(1, 2, 3) is None  # told at the commit
        with pytest.raises(TypeError):
            after["notify"].delay_on_commit(1, 2, 3)
        transaction.set_rollback(True)
    assert live_app.queued() == 2


def test_cache_add(page_of: Callable[[str], Pair], live_app: Live) -> None:
    before, after = page_of("cache-add")
    with (
        before["memcache_lock"]("import-/feed", "first", 0.05),
        locks.lock(after["import_feed"].name, "/feed"),
    ):
        wait_until(lambda: not cache.has_key("import-/feed"), 5)
        # The recipe's lock is over, and the next one's is deleted with it; ours is renewed.
        assert before["import_feed"].apply(("/feed",)).get() == "imported"
        assert after["import_feed"].apply(("/feed",)).get() == "busy"


def test_redbeat(page_of: Callable[[str], Pair]) -> None:
    from celery.utils.imports import symbol_by_name

    for side in page_of("redbeat"):
        assert issubclass(symbol_by_name(side["app"].conf.beat_scheduler), Scheduler)
        assert side["app"].conf.beat_schedule.keys() == {"report"}
