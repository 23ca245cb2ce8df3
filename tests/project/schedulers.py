"""Schedulers that misbehave where the environment says so."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from django_celery_extensions.beat import LockedPersistentScheduler


class Harmed(LockedPersistentScheduler):
    """Is killed or stands still around the sending of its fifth message.

    TEST_BEAT_HARM: `kill before`, `kill after`, `freeze before`. The file TEST_BEAT_MARK says that it happened, so that
    it happens to one beat only.
    """

    _messages = 0

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        harm, mark = os.environ["TEST_BEAT_HARM"], Path(os.environ["TEST_BEAT_MARK"])
        self._messages += 1
        mine = self._messages == 5 and not mark.exists()
        if mine:
            mark.touch()
        if mine and harm == "kill before":
            os.kill(os.getpid(), 9)
        if mine and harm == "freeze before":
            time.sleep(float(os.environ["TEST_BEAT_FREEZE"]))  # the heartbeat goes on, and is of no use
        result = super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        if mine and harm == "kill after":
            os.kill(os.getpid(), 9)
        return result
