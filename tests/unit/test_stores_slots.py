"""What every store of slots does: claims each slot once, refuses old leaders, starts a slot once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.stores import slot_store
from django_celery_extensions.stores.slots import Leader, SlotClaim, SlotRecord, Verdict, unpack
from tests.unit.slot_stores import slots
from tests.unit.stores import close_what_this_thread_opened, redis_options, use_cache

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.slots import SlotStore
    from tests.conftest import MakeServer
    from tests.servers import RedisServer

__all__ = ["slots"]

NAME = "beat:test"
OLD, NEW = (Leader(name=NAME, place="cache", fence=fence) for fence in (1795265753326144, 1795265753326145))
NAMES = ["a", "entry with spaces, ümläut"]


def claim(entry: str = "a", slot: int = 1795265758330196, sending: str = "s1") -> SlotClaim:
    return SlotClaim(entry=entry, slot=slot, sending=sending, rule="r")


def record(slots: SlotStore, entry: str = "a") -> SlotRecord:
    return slots.look(NAME, NAMES).records[entry]


def test_record_is_packed_and_unpacked() -> None:
    for each in (
        SlotRecord(done=5),
        SlotRecord(done=5, slot=4, count=3, sent=False, fence=2, claimed_at=1, sending="x", rule="y", gone=6),
    ):
        assert unpack(each.pack()) == each


def test_first_leader_finds_nothing(slots: SlotStore) -> None:
    found = slots.open(OLD, NAMES)
    assert (found.verdict, found.records, found.empty) == (Verdict.DONE, {}, True)
    assert not slots.open(NEW, NAMES).empty


def test_claimed_slot_is_known_to_the_next_leader(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    for name in NAMES:
        assert slots.claim(OLD, claim(name), [])[0] is Verdict.DONE
    for name in NAMES:
        found = slots.open(NEW, NAMES).records[name]
        assert (found.done, found.slot, found.count, found.sent) == (claim().slot, claim().slot, 1, False)
        assert (found.fence, found.sending, found.rule) == (OLD.fence, "s1", "r")


def test_leader_is_refused_once_another_leads_by_another_store_of_leases(slots: SlotStore) -> None:
    """Fences of two stores can't be compared: whoever opened last leads."""
    elsewhere = Leader(name=NAME, place="zookeeper", fence=7)
    slots.open(NEW, NAMES)
    slots.open(elsewhere, NAMES)
    assert slots.claim(NEW, claim(), [])[0] is Verdict.FENCED
    assert slots.enter(NEW, {}, []) is Verdict.FENCED
    assert slots.again(NEW, "a", 1, "id") is Verdict.FENCED
    assert slots.claim(elsewhere, claim(), [])[0] is Verdict.DONE
    assert slots.open(NEW, NAMES).verdict is Verdict.DONE
    assert slots.claim(elsewhere, claim(slot=claim().slot + 1), [])[0] is Verdict.FENCED


def test_slot_is_claimed_once(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    assert slots.claim(OLD, claim(), [])[0] is Verdict.DONE
    assert slots.claim(OLD, claim(sending="s2"), [])[0] is Verdict.TAKEN
    assert slots.claim(OLD, claim(slot=claim().slot - 1), [])[0] is Verdict.TAKEN
    assert slots.claim(OLD, claim(slot=claim().slot + 1, sending="s3"), [])[0] is Verdict.DONE
    assert record(slots).count == 2


def test_claiming_again_with_the_same_sending_is_the_same_claim(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    for _ in range(2):
        assert slots.claim(OLD, claim(), [])[0] is Verdict.DONE
    assert record(slots).count == 1


def test_old_leader_is_refused(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    slots.open(NEW, NAMES)
    assert slots.claim(OLD, claim(), [])[0] is Verdict.FENCED
    assert slots.enter(OLD, {"a": SlotRecord(done=1)}, []) is Verdict.FENCED
    assert slots.again(OLD, "a", 1, "id") is Verdict.FENCED
    assert slots.open(OLD, NAMES).verdict is Verdict.FENCED
    assert slots.look(NAME, NAMES).records == {}
    assert slots.claim(NEW, claim(), [])[0] is Verdict.DONE


def test_fences_of_two_places_are_not_compared(slots: SlotStore) -> None:
    slots.open(NEW, NAMES)
    elsewhere = Leader(name=NAME, place="zookeeper", fence=7)
    assert slots.open(elsewhere, NAMES).verdict is Verdict.DONE
    assert slots.claim(elsewhere, claim(), [])[0] is Verdict.DONE


def test_store_that_lost_everything_says_so(slots: SlotStore) -> None:
    assert slots.claim(OLD, claim(), [])[0] is Verdict.GONE
    assert slots.enter(OLD, {}, []) is Verdict.GONE
    assert slots.again(OLD, "a", 1, "id") is Verdict.GONE


def test_what_went_out_is_noted_with_the_next_claim(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    slots.claim(OLD, claim(), [])
    slots.claim(OLD, claim(NAMES[1]), [("a", claim().slot)])
    assert (record(slots).sent, record(slots, NAMES[1]).sent) == (True, False)
    slots.mark(NAME, [(NAMES[1], claim().slot)])
    assert record(slots, NAMES[1]).sent


def test_only_the_last_slot_is_marked(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    slots.claim(OLD, claim(), [])
    slots.mark(NAME, [("a", claim().slot - 1), ("unknown", 1)])
    assert not record(slots).sent


def test_records_are_entered_and_forgotten(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    entered = {name: SlotRecord(done=number, rule="r") for number, name in enumerate(NAMES)}
    assert slots.enter(OLD, entered, []) is Verdict.DONE
    assert slots.look(NAME, NAMES).records == entered
    assert slots.enter(OLD, {}, ["a"]) is Verdict.DONE
    assert slots.look(NAME, NAMES).records == {NAMES[1]: entered[NAMES[1]]}


def test_many_records(slots: SlotStore) -> None:
    slots.open(OLD, [])
    entered = {f"entry {number}": SlotRecord(done=number) for number in range(200)}
    slots.enter(OLD, entered, [])
    assert slots.open(NEW, [*entered]).records == entered


# a slot is started once


def start(slots: SlotStore, sending: str, slot: int = 100) -> bool:
    return slots.start(NAME, "a", slot, f"id-{slot}", sending)


def test_message_of_a_slot_may_be_started_again_and_another_one_not(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    assert start(slots, "s1")
    assert start(slots, "s1")  # delivered again, or retried
    assert not start(slots, "s2")
    assert start(slots, "s3", slot=200)
    assert start(slots, "s1")


def test_slot_that_a_worker_has_is_not_sent_again(slots: SlotStore) -> None:
    slots.open(OLD, NAMES)
    start(slots, "s1")
    assert slots.again(OLD, "a", 100, "id-100") is Verdict.STARTED


@pytest.mark.parametrize("first", ["s1", "s2"])
def test_of_two_messages_the_first_is_started(slots: SlotStore, first: str) -> None:
    slots.open(OLD, NAMES)
    assert slots.again(OLD, "a", 100, "id-100") is Verdict.DONE
    (second,) = {"s1", "s2"} - {first}
    assert start(slots, first)
    assert not start(slots, second)
    assert start(slots, first)
    assert start(slots, "s3", slot=200)
    assert not start(slots, second)
    assert slots.again(OLD, "a", 100, "id-100") is Verdict.STARTED


def test_one_of_many_threads_starts_it(slots: SlotStore, request: pytest.FixtureRequest) -> None:
    if "locmem" in request.node.name or "fakeredis" in request.node.name:
        pytest.skip("one process' memory: its own tests say how atomic it is")
    slots.open(OLD, NAMES)
    slots.again(OLD, "a", 100, "id-100")
    gate, started = threading.Barrier(8), []

    def run(number: int) -> None:
        own = slot_store(eager=True)
        gate.wait()
        if own.start(NAME, "a", 100, "id-100", f"s{number}"):
            started.append(number)
        close_what_this_thread_opened()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1


# Redis: cost and clock


@pytest.fixture
def on_redis(store_server: RedisServer, settings: SettingsWrapper) -> SlotStore:
    store_server.flush()
    use_cache(settings, redis_options("django-redis", store_server.url))
    return slot_store(eager=True)


def test_takeover_reads_ten_thousand_records_in_one_round_trip(
    on_redis: SlotStore, store_server: RedisServer
) -> None:
    on_redis.open(OLD, [])
    entered = {f"entry {number}": SlotRecord(done=number) for number in range(10_000)}
    on_redis.enter(OLD, entered, [])
    with store_server.recording() as commands:
        found = on_redis.open(NEW, [*entered])
    assert len(found.records) == 10_000
    assert [command[0].upper() for command in commands] == ["EVALSHA"]


def test_claim_is_one_round_trip_with_the_marks_of_others(
    on_redis: SlotStore, store_server: RedisServer
) -> None:
    on_redis.open(OLD, [])
    on_redis.claim(OLD, claim(), [])
    with store_server.recording() as commands:
        on_redis.claim(OLD, claim("b"), [("a", claim().slot)])
    assert [command[0].upper() for command in commands] == ["EVALSHA"]


def test_clock_is_the_server_s(on_redis: SlotStore) -> None:
    opened = on_redis.open(OLD, [])
    _, now = on_redis.claim(OLD, claim(), [])
    assert opened.now is not None
    assert now is not None
    assert opened.now <= now
    assert abs(now / 1e6 - time.time()) < 5


def test_what_is_remembered_of_starts_is_bounded(on_redis: SlotStore, redis: Any) -> None:
    on_redis.open(OLD, NAMES)
    for slot in range(1, 200):
        assert start(on_redis, f"s{slot}", slot=slot)
    assert len(redis.keys("*")) == 2


def test_outage_is_told(settings: SettingsWrapper, make_server: MakeServer) -> None:
    from tests.servers import RedisServer as Redis

    server = make_server(Redis)
    use_cache(settings, redis_options("django-redis", server.url))
    store = slot_store()
    store.open(OLD, NAMES)
    server.kill()
    steps: list[Any] = [
        lambda: store.open(OLD, NAMES),
        lambda: store.look(NAME, NAMES),
        lambda: store.claim(OLD, claim(), []),
        lambda: store.mark(NAME, [("a", 1)]),
        lambda: store.enter(OLD, {}, []),
        lambda: store.again(OLD, "a", 1, "id"),
        lambda: store.start(NAME, "a", 1, "id", "s"),
    ]
    for step in steps:
        with pytest.raises(StoreUnavailable):
            step()
    server.restart()
    assert store.claim(OLD, claim(), [])[0] is Verdict.GONE
