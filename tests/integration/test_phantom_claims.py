"""A store that does not answer may have made the claim all the same: nobody must be told of a task never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from django_celery_extensions.exceptions import StoreUnavailable
from tests.project import tasks
from tests.servers import RedisServer
from tests.settings import redis_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live

pytestmark = [pytest.mark.integration]


def test_claim_of_a_call_that_got_no_answer_is_ended(live_app: Live, make_server: Any) -> None:
    server = make_server(RedisServer)
    cache = redis_cache(server.url)
    cache["OPTIONS"]["SOCKET_TIMEOUT"] = 0.2
    with override_settings(CACHES={"default": cache}):
        tasks.silent.delay("the script is known to the server now")
        with server.frozen(), pytest.raises(StoreUnavailable):
            tasks.silent.delay("a")
        # What waited in the frozen server's buffer is carried out when it wakes up.
        with server.client() as client:
            wait_until(lambda: client.keys("*"), what="the server is awake")
        wait_until(
            lambda: tasks.silent.apply_async(("a",), unique_on_conflict="skip").outcome == "triggered",
            timeout=10,
            what="the next call is sent",
        )
