"""Every store of slots that the contract suite runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_celery_extensions.stores import slot_store
from tests.unit.stores import CLUSTER, OTHERS, REDIS, opened_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.slots import SlotStore


@pytest.fixture(params=[*REDIS, CLUSTER, *OTHERS])
def slots(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Iterator[SlotStore]:
    """Every store in turn, empty."""
    with opened_cache(request.param, request, settings):
        yield slot_store(eager=True)
