"""Members of a canvas whose claim a newer call has taken: they take over its result, or run themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord

from tests.project import journal
from tests.project.tasks import collect, latest
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.live import Live

pytestmark = pytest.mark.integration

CANVASES = {
    "chain": lambda: chain(latest.si("a", "A"), collect.s()),
    "chord": lambda: chord([latest.si("a", "A")], collect.s()),
}


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("newer", ["B", "BC"])
def test_replaced_member_goes_on(
    live_app: Live, make_worker: Any, canvas: str, newer: str, stored: bool
) -> None:
    """Naive: it waits for the one that took its claim, which was replaced itself, or leaves no result."""
    result = CANVASES[canvas]().apply_async()
    for text in newer:
        latest.apply_async(("a", text), ignore_result=not stored)
    worker = make_worker()
    value = result.get(timeout=20)
    expected = newer[-1] if stored else "A"
    assert (value[0] if isinstance(value, list) else value) == expected
    texts = [line[3] for line in journal.read("start") if line[1] == "a"]
    assert texts == ([newer[-1]] if stored else [newer[-1], "A"]), worker.log()
    wait_until(lambda: not latest.is_processing(("a", "A")), what="the key is free")
