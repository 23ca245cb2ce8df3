"""Django settings of a cell: the environment variable MATRIX_CELL holds them, see `tests.matrix.places.Place`."""

from __future__ import annotations

import json
import os
from typing import Any

CELL: dict[str, Any] = json.loads(os.environ["MATRIX_CELL"])

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_celery_extensions", *CELL["apps"]]
DATABASES = {"default": CELL["database"]}
CACHES = {"default": CELL["cache"]}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
globals().update({name.upper(): value for name, value in CELL["settings"].items()})
