"""The observer of the chaos runs sees a store that stands still, and nothing else."""

from __future__ import annotations

import time
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.chaos import history
from tests.chaos.observer import Observer
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
        time.sleep(2 * Observer.SLOW)
        ended = monotonic()
    wait_until(
        lambda: any(event["to"] >= ended for event in history.read(directory)),
        what="the outage was noted",
    )
    observer.finish()
    (outage,) = [event for event in history.read(directory) if event["to"] >= ended]
    assert outage["t"] < began + Observer.LOOK
