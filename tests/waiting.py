"""Waiting for something to happen, with a bound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    timeout: float = 10,
    what: str | Callable[[], str] = "",
    interval: float = 0.01,
) -> T:
    """Call *predicate* until it returns something true and return that.

    Raises AssertionError after *timeout* seconds, naming *what* was waited for and the last value. A callable
    *what* is asked only then, so that it can tell the state at the end (a worker's log, say).
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            described = what() if callable(what) else what
            described = described or getattr(predicate, "__qualname__", repr(predicate))
            msg = f"not within {timeout:g} s: {described} (last value: {value!r})"
            raise AssertionError(msg)
        time.sleep(interval)
