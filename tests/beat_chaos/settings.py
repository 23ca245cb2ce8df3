"""Settings of the beats and the worker of this run."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403

CELERY_IMPORTS = ["tests.beat_chaos.tasks"]
CELERY_TASK_IGNORE_RESULT = True
#: How many entries, and how many seconds after which a slot counts as lost.
ENTRIES, AGE = 10, 600
CELERY_BEAT_SCHEDULE = {
    f"entry-{number}": {
        "task": "tests.beat_chaos.tasks.slot",
        "schedule": 1.0,
        "args": [f"entry-{number}"],
        # Celery's own schedulers and others know no such option.
        **({"catch_up": ("all", AGE)} if os.environ.get("BEAT_CHAOS_OURS") else {}),
    }
    for number in range(ENTRIES)
}
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_REDBEAT_REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
CELERY_REDBEAT_LOCK_TIMEOUT = float(os.environ.get("TEST_LOCK_TIMEOUT", "5"))
