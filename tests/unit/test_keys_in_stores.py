"""Names of calls as keys of a store: whatever a generator returns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from django_celery_extensions.config import settings as our_settings
from django_celery_extensions.keys import claim_key, replaced_key, unique_name, window_key

if TYPE_CHECKING:
    from tests.unit.conftest import Declare

RETURNED = [
    "plain",
    "x" * 180,
    "x" * 181,
    "x" * 300,
    "x" * 5000,
    "with spaces and\ttabs\nand lines\r\n",
    "{braces}",
    "}{",
    "{}",
    "a{b}c{d}e",
    "ünïcödé ☃ 🎉",
    "\x00\x7f",
    "a:b:c",
]


def take(x: Any = None) -> None: ...


def keys_of(declare: Declare, returned: str) -> tuple[str, ...]:
    task = declare(take, unique=True, unique_key_generator=lambda *_: returned)
    name = unique_name(task, "prefix", (), {})
    return keys_of_name(name)


def keys_of_name(name: str) -> tuple[str, ...]:
    return claim_key(name), window_key(our_settings.IGNORE_TASK_KEY_PREFIX, name), replaced_key(name)


def assert_fit(keys: tuple[str, ...]) -> None:
    for key in keys:
        assert len(key) <= 230, "Django's prefix and version need room too"
        assert re.fullmatch(r"[!-~]+", key), "Memcached takes no control characters and no spaces"
    assert len({key_slot(key.encode()) for key in keys}) == 1
    assert len({key_slot(f"site:1:{key}".encode()) for key in keys}) == 1
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("returned", RETURNED)
def test_any_name_fits_any_store(declare: Declare, returned: str) -> None:
    assert_fit(keys_of(declare, returned))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(returned=st.text(min_size=1, max_size=400))
def test_every_name_fits_any_store(declare: Declare, returned: str) -> None:
    task = declare(take, unique=True, unique_key_generator=lambda *_: "first")
    type(task).unique_key_generator = lambda *_: returned
    name = unique_name(task, "prefix", (), {})
    assert_fit(keys_of_name(name))


def test_names_that_are_made_safe_stay_apart(declare: Declare) -> None:
    task = declare(take)
    made = set()
    for returned in [*RETURNED, "with spaces", "with_spaces", "with  spaces", "x" * 301]:
        type(task).unique_key_generator = lambda *_, returned=returned: returned
        made.add(unique_name(task, "prefix", (), {}))
    assert len(made) == len(RETURNED) + 4


def test_safe_name_is_left_alone(declare: Declare) -> None:
    claim, window, _ = keys_of(declare, "shop:order-5|mail")
    assert claim == "{shop:order-5|mail}"
    assert window == our_settings.IGNORE_TASK_KEY_PREFIX + ":{shop:order-5|mail}"


def test_name_that_is_made_safe_can_still_be_found(declare: Declare) -> None:
    claim, *_ = keys_of(declare, "order 5 of shop")
    assert claim.startswith("{order_5_of_shop:")


@pytest.mark.parametrize("name", ["t" * 400, "task with spaces", "täsk"])
def test_odd_name_of_a_task_is_made_safe(declare: Declare, name: str) -> None:
    task = declare(take, unique=True, name=name)
    made = unique_name(task, "prefix", (), {})
    assert_fit(keys_of_name(made))
    assert made != unique_name(task, "prefix", (1,), {})
