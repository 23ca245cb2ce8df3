"""Fixtures for the tests of a project; pytest finds them by itself.

``celery_outbox``: nothing is sent, see :func:`django_celery_extensions.testing.capture_tasks`.
``celery_claims``: claims, ignore windows and locks of the test are its own, for tasks that run eagerly.
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
    """What the tasks of this test would have sent; nothing is sent."""
    from django_celery_extensions.testing import capture_tasks  # noqa: PLC0415

    with capture_tasks() as outbox:
        yield outbox


@pytest.fixture
def celery_claims() -> Iterator[None]:
    """An empty store of claims, ignore windows and locks for this test alone."""
    from django_celery_extensions.testing import isolated_claims  # noqa: PLC0415

    with isolated_claims():
        yield
