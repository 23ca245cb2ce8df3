"""Locks that are broken on purpose, to show that the checker sees it: `--broken NAME`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_celery_extensions.stores.leases import LeaseHolding, LeaseStore

#: Environment variable that names what is broken.
VARIABLE = "LOCK_CHAOS_BROKEN"


def never_renews() -> None:
    """Leases are not renewed, and nobody is told that they are lost."""
    from django_celery_extensions.heartbeat import Heartbeat
    from django_celery_extensions.leases import Lease

    Heartbeat.keep = lambda *_: None  # type: ignore[method-assign]
    Lease.lost = property(lambda _: False)  # type: ignore[assignment, method-assign]


def gives_back_blindly() -> None:
    """Giving back ends whatever holding there is, as `DEL key` would."""

    def give_back(self: LeaseStore, holding: LeaseHolding) -> bool:
        ended = [self.evict(holder) for holder in self.holders(holding.name)]
        return any(ended)

    _store_class().give_back = give_back


def fence_stands() -> None:
    """A fence is that of the holder before, now and then."""
    store_class = _store_class()
    plain, before = store_class.take, {}

    def take(self: LeaseStore, ask: Any) -> Any:
        grant = plain(self, ask)
        if grant.holding is None:
            return grant
        fence = before.setdefault(ask.name, grant.holding.fence)
        return replace(grant, holding=replace(grant.holding, fence=fence))

    store_class.take = take


def _store_class() -> Any:
    from django_celery_extensions.stores import lease_store

    return type(lease_store())


WAYS = {way.__name__: way for way in (never_renews, gives_back_blindly, fence_stands)}


def apply() -> None:
    """Break what the environment names, in this process."""
    name = os.environ.get(VARIABLE)
    if name:
        WAYS[name]()
