"""Claims of a real worker in caches other than one Redis server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from django_celery_extensions.config import settings as our_settings
from django_celery_extensions.keys import unique_name
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Ask
from tests.project import journal, tasks
from tests.unit.stores import CLUSTER, opened_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeWorker
    from tests.live import Live

pytestmark = [pytest.mark.integration]

LEASE = 1.2


def of_the_worker(settings: SettingsWrapper) -> dict[str, str]:
    """What a worker must be told to keep its claims where we do."""
    env = {
        "TEST_CACHES": json.dumps({"default": settings.CACHES["claims"]}),
        "TEST_LOCK_TIMEOUT": str(LEASE),
    }
    if "claims" in connections.settings:
        env["TEST_DATABASES"] = json.dumps({"default": {**connections.settings["claims"], "TEST": {}}})
    return env


@pytest.mark.parametrize("name", [CLUSTER, "django-valkey", "postgresql"])
def test_claim_is_kept_while_the_task_lives_and_ends_with_it(
    live_app: Live,
    make_worker: MakeWorker,
    settings: SettingsWrapper,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    with opened_cache(name, request, settings):
        make_worker(env=of_the_worker(settings))
        store = claim_store()
        first = tasks.gated.delay("a")
        wait_until(lambda: journal.read("start"), what="the body runs")
        claimed = store.holding(unique_name(tasks.gated, our_settings.UNIQUE_TASK_KEY_PREFIX, ("a",), {}))
        assert claimed is not None
        assert claimed.token, "by the worker now"
        store.start(Ask(name="not-renewed", task_id="x", token="t", claim=LEASE))
        retried = tasks.flaky.delay("a")
        wait_until(lambda: len(journal.read("try")) == 2, what="the second try")
        assert tasks.flaky.delay("a").id == retried.id
        assert retried.get(timeout=10) == "a"
        wait_until(lambda: store.holding("not-renewed") is None, timeout=5, what="a lease ends")
        assert tasks.gated.delay("a").id == first.id, "the worker renews its own"
        journal.open_gate("a")
        assert first.get(timeout=10) == f"a:{first.id}"
        wait_until(lambda: not tasks.gated.is_processing(("a",)), what="the claim has ended")
        assert len(journal.read("start")) == 1
