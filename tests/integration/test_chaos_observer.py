"""Who watches the chaos runs sees a store, a processor or a clock that is not right, and nothing else."""

from __future__ import annotations

import time
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.chaos import history
from tests.chaos.observer import LOOK, SLOW, ClockWatch, Observer, Pulse, watching
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeServer

pytestmark = pytest.mark.integration


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv(history.DIRECTORY, str(tmp_path))
    history.forget()
    yield tmp_path
    history.forget()


def test_observer_notes_a_store_that_stands_still(make_server: MakeServer, directory: Path) -> None:
    server = make_server(RedisServer)
    observer = Observer([server])
    observer.start()
    began = monotonic()
    with server.frozen():
        time.sleep(2 * SLOW)
        ended = monotonic()
    wait_until(
        lambda: any(event["to"] >= ended for event in history.read(directory)),
        what="the outage was noted",
    )
    observer.finish()
    (outage,) = [event for event in history.read(directory) if event["to"] >= ended]
    assert outage["t"] < began + LOOK


def test_pulse_notes_a_processor_that_stands_still(directory: Path) -> None:
    moments = iter([10.0, 10.1, 12.3, 12.4])
    pulse = Pulse(0, clock=lambda: next(moments))
    for _ in range(3):
        pulse.look()
    (outage,) = history.read(directory)
    assert (outage["e"], outage["t"], outage["to"]) == ("outage", 10.1, 12.3)


@pytest.mark.parametrize("by", [1.5, -1.5])
def test_clock_that_is_set_is_noted(directory: Path, by: float) -> None:
    ahead = iter([0.0, 0.01, by, by])
    watch = ClockWatch(clock=lambda: 1000 + monotonic() + next(ahead))
    for _ in range(3):
        watch.look()
    (event,) = history.read(directory)
    assert event["e"] == "clock set"
    assert event["by"] == pytest.approx(by, abs=0.1)


def test_what_goes_on_is_not_noted(make_server: MakeServer, directory: Path) -> None:
    """In a second of a busy machine one look may be late, but no clock is set."""
    server = make_server(RedisServer)
    with watching([server]):
        time.sleep(10 * LOOK)
    assert [event for event in history.read(directory) if event["e"] != "outage"] == []
