"""Fixtures for the tests of a project. pytest finds them by itself.

``celery_outbox``: nothing is sent; see :func:`django_celery_extensions.testing.capture_tasks`.
``celery_claims``: the test starts without claims, ignore windows and locks; for tasks that run eagerly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_celery_extensions.testing import Outbox

# What they stand on imports Django, which may not be set up when pytest loads its plugins.


@pytest.fixture
def celery_outbox() -> Iterator[Outbox]:
    """Collect what the test would have sent, and send nothing."""
    from django_celery_extensions.testing import capture_tasks  # noqa: PLC0415

    with capture_tasks() as outbox:
        yield outbox


@pytest.fixture
def celery_claims() -> Iterator[None]:
    """Give the test an empty store of claims, ignore windows and locks of its own."""
    from django_celery_extensions.testing import isolated_claims  # noqa: PLC0415

    with isolated_claims():
        yield
