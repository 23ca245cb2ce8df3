"""The claim of a running task, by a clock that the test moves."""

from __future__ import annotations

import pytest

from django_celery_extensions import leases
from django_celery_extensions.claims import Claim
from django_celery_extensions.exceptions import LeaseLost
from django_celery_extensions.stores.base import Holding


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(leases, "monotonic", lambda: now[0])
    return now


def make(*, lease: float = 10, stale: float = 1000) -> Claim:
    holding = Holding(name="n", task_id="A", token="t", fence=7)
    return Claim(holding, lease=lease, stale=stale, asked_at=100.0)


def test_trust_ends_before_the_lease_does(clock: list[float]) -> None:
    claim = make()
    clock[0] = 108.9
    claim.ensure()
    clock[0] = 109.0
    with pytest.raises(LeaseLost, match="task A"):
        claim.ensure()


def test_trust_counts_from_the_start_of_a_renewal_not_from_its_answer(clock: list[float]) -> None:
    claim = make()
    clock[0] = 108.0
    claim.renewal(103.0, kept=True)
    clock[0] = 111.9
    assert not claim.lost
    clock[0] = 112.0
    assert claim.lost


def test_lost_is_final(clock: list[float]) -> None:
    claim = make()
    clock[0] = 109.5
    assert claim.lost
    claim.renewal(109.6, kept=True)
    assert claim.lost


def test_claim_that_was_taken_is_lost_at_once(clock: list[float]) -> None:
    claim = make()
    claim.renewal(101.0, kept=False)
    assert claim.lost


def test_lease_does_not_outlast_the_stale_limit(clock: list[float]) -> None:
    claim = make(stale=12)
    claim.renewal(105.0, kept=True)
    assert claim.lasts(105.0) == 7
    assert claim.lasts(112.0) == 0
