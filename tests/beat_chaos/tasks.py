"""What the entries fire, and what everybody writes down."""

from __future__ import annotations

import os
from typing import Any

from celery.signals import before_task_publish

from tests.chaos.history import note
from tests.project.celery import app


@app.task(bind=True)
def slot(self: Any, entry: str) -> None:
    header = getattr(self.request, "dce_slot", None) or {}
    note("start", entry=entry, slot=header.get("slot"), task=self.request.id, pid=os.getpid())


@before_task_publish.connect
def sent(body: Any = None, headers: Any = None, **_: Any) -> None:
    """Only beats send."""
    about = (headers or {}).get("dce_slot") or {}
    note("sent", entry=body[0][0], slot=about.get("slot"), sending=about.get("sending"), pid=os.getpid())
