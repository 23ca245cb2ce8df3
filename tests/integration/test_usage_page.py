"""The examples of the usage page that the contract grew from, as they are written there."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import override_settings

from django_celery_extensions.exceptions import NotTriggeredCeleryError
from django_celery_extensions.task import get_django_command_task
from tests.project import journal, tasks, usage
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.live import Live
    from tests.workers import Worker

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def user(db: Any) -> Any:
    return get_user_model().objects.create_user("ada")


def test_on_commit_and_get_result(live_app: Live, worker: Worker, user: Any) -> None:
    with transaction.atomic():
        result = usage.notify_user.apply_async_on_commit(args=(user.pk,))
        other = usage.notify_user.delay_on_commit(user.pk)
        assert result.state == "WAITING"
        with pytest.raises(NotTriggeredCeleryError):
            result.get()
        assert live_app.queued() == 0
    assert result.get(timeout=10) is True
    assert other.get(timeout=10) is True
    assert usage.notify_user.apply_async_and_get_result(args=(user.pk,), timeout=10, propagate=True) is True


def test_timeout_of_get_result_is_told(live_app: Live, user: Any) -> None:
    usage.timeouts.clear()
    with pytest.raises(CeleryTimeoutError):
        usage.notify_user_with_hooks.apply_async_and_get_result(args=(user.pk,), timeout=0.1)
    assert len(usage.timeouts) == 1


def test_default_retry_delays(live_app: Live, worker: Worker, user: Any) -> None:
    assert usage.notify_user_with_delays.max_retries == 3
    usage.notify_user_with_delays.delay(user.pk)
    worker.wait_for_log("retry: Retry in 60")


def test_unique_with_stale_time_limit(live_app: Live, worker: Worker, user: Any) -> None:
    first = usage.notify_user_unique.delay(user.pk)
    assert usage.notify_user_unique.delay(user.pk).id == first.id
    assert usage.notify_user_unique.is_processing(args=(user.pk,))
    with live_app.store.client() as client:
        (key,) = client.keys("*")
        assert 0 < client.ttl(key) <= 60
    journal.open_gate("notify")
    assert first.get(timeout=10) is True
    assert not usage.notify_user_unique.is_processing(args=(user.pk,))


def test_custom_unique_key_generator(live_app: Live, user: Any) -> None:
    first = usage.notify_user_custom_key.delay(1)
    assert usage.notify_user_custom_key.delay(2).id == first.id


def test_command_task(live_app: Live, make_worker: Any, tmp_path: Path) -> None:
    env = {"TEST_DATABASE": str(tmp_path / "db.sqlite3"), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "-v0"], check=True, timeout=60, env={**os.environ, **env}
    )
    worker: Worker = make_worker(env=env)
    task = get_django_command_task("clearsessions")
    assert task.unique
    result = task.delay_on_commit()
    assert result.id
    worker.wait_for_log(f"{task.name}[{result.id}] succeeded")
    wait_until(lambda: not task.is_processing(), what="its claim has ended")


def test_ignore_after_success(live_app: Live, worker: Worker) -> None:
    first = tasks.ignored_after_success.delay(5)
    assert first.get(timeout=10) == 5
    assert first.state == "SUCCESS"
    second = tasks.ignored_after_success.delay(5)
    assert second.state == "IGNORED"
    assert second.get() is None
    assert not second.successful()
    assert not second.failed()
    with live_app.store.client() as client:  # wait 5 hours
        (window,) = client.keys("*")
        assert timedelta(hours=4.9) < timedelta(milliseconds=client.pttl(window)) <= timedelta(hours=5)
        client.pexpire(window, 1)
        wait_until(lambda: not client.exists(window), what="the window is over")
    third = tasks.ignored_after_success.delay(5)
    assert third.get(timeout=10) == 5
    assert third.state == "SUCCESS"


def test_failure_opens_no_window(live_app: Live, worker: Worker) -> None:
    result = tasks.ignored_after_success.delay(5, error=True)
    wait_until(result.ready, what="it has failed")
    assert tasks.ignored_after_success.delay(5, error=True).state != "IGNORED"


def test_ignore_by_hand(live_app: Live, worker: Worker) -> None:
    assert tasks.ignored_by_hand.delay(1, ignore=False).get(timeout=10) == 1
    assert tasks.ignored_by_hand.delay(1, ignore=False).get(timeout=10) == 1
    assert tasks.ignored_by_hand.delay(2).get(timeout=10) == 2
    assert tasks.ignored_by_hand.delay(2).state == "IGNORED"
    with live_app.store.client() as client:
        (window,) = client.keys("*")
        assert timedelta(hours=1.9) < timedelta(milliseconds=client.pttl(window)) <= timedelta(hours=2)


def test_message_queued_before_the_first_success_is_ignored_too(live_app: Live, make_worker: Any) -> None:
    first, second = (tasks.ignored_after_success.delay(7) for _ in range(2))
    make_worker(pool="solo")
    assert first.get(timeout=10) == 7
    assert second.get(timeout=10) is None
    assert second.state == "IGNORED"
    assert second.ready()
    assert len(journal.read("start")) == 1


def test_settings_are_read_when_used(live_app: Live) -> None:
    with override_settings(DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT=33):
        tasks.silent.delay("limit")
    with live_app.store.client() as client:
        (key,) = client.keys("*")
        assert 32 <= client.ttl(key) <= 33
