"""A message that the broker delivers twice, as Redis does after its visibility timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.project import journal, tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live

pytestmark = [pytest.mark.integration]


def test_claim_is_kept_through_the_retries_of_one_of_them(live_app: Live, make_worker: Any) -> None:
    first = tasks.slow_to_fail.delay("a")
    with live_app.broker.client(live_app.broker_database) as client:
        (message,) = client.lrange("celery", 0, -1)
        client.lpush("celery", message)
    make_worker(concurrency=3)
    wait_until(lambda: journal.read("try"), what="the first try")
    others = []

    def ended() -> bool:
        if not first.ready():
            others.append(tasks.slow_to_fail.delay("a").id)
        return first.ready()

    # The result is stored after the claim has ended: the last call may have been let in between the two.
    wait_until(ended, what="the task ended", timeout=15)
    assert set(others[:-1]) == {first.id}
    assert first.get(timeout=5) == "a"
