"""A message that the broker delivers twice, as Redis does after its visibility timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.project import journal, tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live

pytestmark = [pytest.mark.integration]


def deliver_twice(live_app: Live) -> None:
    with live_app.broker.client(live_app.broker_database) as client:
        (message,) = client.lrange("celery", 0, -1)
        client.lpush("celery", message)


@pytest.mark.parametrize("limit", [{"max_queue_waiting_time": 4, "time_limit": 60}, {"expires": 4}])
def test_copy_of_a_running_task_does_not_get_too_old(
    live_app: Live, make_worker: Any, limit: dict[str, Any]
) -> None:
    """Naive: the copy waits with the expiry of its message, and the running task is told to be revoked."""
    worker = make_worker(concurrency=3)
    aside = 8  # a database that no worker looks at
    with live_app.app.connection_for_write(live_app.broker.database(aside)) as connection:
        first = tasks.gated.apply_async(("a",), connection=connection, **limit)
    with live_app.broker.client(aside) as client:
        message = client.lpop("celery")
    with live_app.broker.client(live_app.broker_database) as client:
        client.lpush("celery", message, message)
    wait_until(
        lambda: worker.log().count("another delivery of this message runs") >= 7,  # after some 6 seconds
        timeout=30,
        what=worker.log,
    )
    assert not first.ready()
    assert tasks.gated.delay("a").id == first.id
    journal.open_gate("a")
    assert first.get(timeout=10) == f"a:{first.id}"
    wait_until(lambda: "it has run already" in worker.log(), timeout=20, what=worker.log)
    assert first.state == "SUCCESS"


def test_claim_is_kept_through_the_retries_of_one_of_them(live_app: Live, make_worker: Any) -> None:
    first = tasks.slow_to_fail.delay("a")
    deliver_twice(live_app)
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
