"""What tasks did, in the order in which they did it; and gates at which they wait for the test."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

_JOURNAL, _GATE = "test:journal", "test:gate:"


@lru_cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)


def client() -> redis.Redis:
    # The environment of a worker; in the test process the configuration, which `live_app` changes. Where results are
    # not in Redis, the settings say.
    from tests.project.celery import app

    own = getattr(settings, "TEST_JOURNAL", None)
    if own is not None:
        return _client(own)
    return _client(os.environ.get("CELERY_RESULT_BACKEND") or app.conf.result_backend)


def write(*values: Any) -> None:
    client().rpush(_JOURNAL, json.dumps(values))


def read(*events: str) -> list[list[Any]]:
    """Return the lines of the journal, those of the named events only where any are named."""
    lines = [json.loads(line) for line in client().lrange(_JOURNAL, 0, -1)]
    return [line for line in lines if not events or line[0] in events]


def wait_for_gate(key: str, timeout: int = 60) -> None:
    if client().blpop([_GATE + key], timeout=timeout) is None:
        msg = f"nobody opened the gate {key}"
        raise TimeoutError(msg)


def open_gate(key: str, times: int = 1) -> None:
    client().rpush(_GATE + key, *["open"] * times)


def gate_is_open(key: str) -> bool:
    return bool(client().lpop(_GATE + key))
