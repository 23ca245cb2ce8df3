"""Every store of leases that the contract suite runs against, with its real server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_celery_extensions.stores import lease_store
from tests.unit.stores import CLUSTER, OTHERS, REDIS, close_what_this_thread_opened, opened_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore

ZOOKEEPER = "zookeeper"
ALL = (*REDIS, CLUSTER, *OTHERS, ZOOKEEPER)
#: Several may hold a name there; and who waits is served in order, and woken.
COUNTING = QUEUEING = (*REDIS, CLUSTER, "fakeredis", ZOOKEEPER)
#: A lease that is not renewed ends there by itself; elsewhere it ends with its session.
ENDING = tuple(name for name in ALL if name != ZOOKEEPER)


@dataclass(kw_only=True)
class LeaseBackend:
    """A store, and what the suite has to know about it."""

    name: str
    store: LeaseStore
    #: Seconds of the shortest lease that the suite asks for, and how long the store may keep one of that length.
    shortest: float
    longest: float

    @contextlib.contextmanager
    def of_this_thread(self) -> Iterator[LeaseStore]:
        """Yield the store as a thread gets it, and close what the thread opened."""
        try:
            yield lease_store(eager=True)
        finally:
            close_what_this_thread_opened()


@contextlib.contextmanager
def opened_leases(
    name: str, request: pytest.FixtureRequest, settings: SettingsWrapper
) -> Iterator[LeaseBackend]:
    """Open the store of that name, empty."""
    if name == ZOOKEEPER:
        request.getfixturevalue("zookeeper_store")
        yield LeaseBackend(name=name, store=lease_store(), shortest=1.0, longest=2.0)
        return
    with opened_cache(name, request, settings):
        exact = name in (*REDIS, CLUSTER, "fakeredis")
        yield LeaseBackend(
            name=name,
            store=lease_store(eager=True),
            shortest=0.5 if exact else 1.0,
            longest=0.5 if exact else 2.0,
        )
