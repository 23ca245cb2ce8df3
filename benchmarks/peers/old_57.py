"""The older package of our name, 0.0.38, on a Celery and a Django that it does not allow."""

from __future__ import annotations

from dataclasses import replace

from . import old
from .celery_parts import WITH_DJANGO
from .old import measures, worker

__all__ = ["PEER", "measures", "worker"]

PEER = replace(
    old.PEER,
    name="old_57",
    title="django-celery-extensions {django-celery-extensions} on Celery {celery}, Django {django}: its requirements overridden",
    short="0.0.38, forced onto Celery {celery}",
    overrides=WITH_DJANGO[:2],
    groups=("enqueue", "worker"),
    base="plain",
    python="",
)
