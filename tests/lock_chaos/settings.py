"""Settings of the chaos run of locks."""

from __future__ import annotations

import os

from tests.chaos.settings import *  # noqa: F403

CELERY_IMPORTS = ["tests.lock_chaos.tasks"]
# Nothing of it is what this is about: a killed worker's messages may be lost with it.
CELERY_TASK_IGNORE_RESULT = True

if "TEST_ZOOKEEPER_HOSTS" in os.environ:
    DJANGO_CELERY_EXTENSIONS_LOCK_STORE = "zookeeper"
    CELERY_ZOOKEEPER_HOSTS = os.environ["TEST_ZOOKEEPER_HOSTS"]
