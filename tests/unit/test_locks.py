"""Locks without workers: what they take, what they refuse, and what an outage comes to."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Reject, Retry
from django.test import override_settings

from django_celery_extensions import acquisition, locks
from django_celery_extensions.exceptions import (
    CeleryError,
    HolderLimitConflict,
    InvalidOption,
    LeaseLost,
    StoreUnavailable,
    TaskConfigurationError,
)
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.locks import LockTask, MutexTask
from django_celery_extensions.stores import lease_store, renewer
from tests.servers import RedisServer
from tests.settings import redis_cache
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeServer
    from tests.unit.conftest import Declare


@pytest.fixture
def on_redis(store_server: RedisServer) -> Iterator[RedisServer]:
    store_server.flush()
    with override_settings(CACHES={"default": redis_cache(store_server.url)}):
        yield store_server


# code that is no task


@pytest.mark.usefixtures("on_redis")
def test_lock_of_a_view_or_a_command() -> None:
    with locks.lock("report", 7) as lock:
        assert lock
        assert lock.fence > 0
        assert not lock.lost
        lock.ensure()
        with locks.lock("report", 7) as second:
            assert not second
        with locks.lock("report", 8) as other:
            assert other
        (holder,) = locks.holders("report", 7)
        assert holder.owner.startswith(socket.gethostname())
        assert holder.fence == lock.fence
    assert locks.holders("report", 7) == []


@pytest.mark.usefixtures("on_redis")
def test_lock_semaphore_and_mutex_of_one_name_do_not_meet() -> None:
    with locks.lock("n") as lock, locks.semaphore("n", max_leases=2) as lease:
        assert lock
        assert lease
        assert len(locks.holders("n")) == len(locks.holders("n", kind="semaphore")) == 1
        assert locks.holders("n", kind="mutex") == []


@pytest.mark.usefixtures("on_redis")
def test_every_value_refines_a_lock() -> None:
    """None, 0, False, "", "0" and no argument at all are six; a tuple is the list that it becomes in JSON."""
    values: list[tuple[Any, ...]] = [(), (None,), (0,), (False,), ("",), ("0",), ("a", "b"), (["a", "b"],)]
    held = [locks.lock("n", *value) for value in values]
    try:
        assert all(lock.__enter__() for lock in held)
        with locks.lock("n", ("a", "b")) as same:
            assert not same
    finally:
        for lock in held:
            lock.__exit__(None, None, None)


@pytest.mark.usefixtures("on_redis")
def test_lock_ends_with_an_error_in_its_block() -> None:
    with pytest.raises(ValueError, match="mine"), locks.lock("n"):
        raise ValueError("mine")
    assert locks.holders("n") == []


@pytest.mark.usefixtures("on_redis")
def test_evicted_holder_is_told() -> None:
    with locks.lock("n", lease_timeout=0.6) as lock:
        assert lock
        (holder,) = locks.holders("n")
        assert locks.evict(holder)
        wait_until(lambda: lock.lost, timeout=3, what="it is lost")
        with pytest.raises(LeaseLost, match="lock:n is lost"):
            lock.ensure()
        with locks.lock("n") as other:
            assert other
            assert other.fence > lock.fence
        with locks.lock("n") as again:
            assert again
    assert locks.holders("n") == []


@pytest.mark.usefixtures("on_redis")
def test_waiting_ends_with_its_timeout() -> None:
    with locks.lock("n"):
        began = monotonic()
        with locks.lock("n", blocking=True, timeout=0.3) as second:
            assert second is False
        assert 0.3 <= monotonic() - began < 1.5
        with locks.lock("n", blocking=True, timeout=0) as third:
            assert third is False
    with locks.lock("n") as lock:
        assert lock, "who waited in vain stands in nobody's way"


@pytest.mark.usefixtures("on_redis")
def test_lock_is_for_one_block() -> None:
    hold = locks.lock("n")
    with hold as lock:
        assert lock
        with pytest.raises(TaskConfigurationError, match="for one block"), hold:
            pytest.fail("never reached")
        assert locks.holders("n")
    assert locks.holders("n") == []
    with pytest.raises(TaskConfigurationError, match="for one block"), hold:
        pytest.fail("never reached")


@pytest.mark.usefixtures("on_redis")
def test_lock_around_a_function_is_taken_at_each_call() -> None:
    @locks.lock("n", identifier="me")
    def function() -> list[str]:
        return [holder.owner for holder in locks.holders("n")]

    assert function() == function() == ["me"]
    assert locks.holders("n") == []


@pytest.mark.usefixtures("on_redis")
def test_equal_arguments_that_are_not_the_same_refine_differently() -> None:
    """Names are remembered; 1, True and 1.0 are equal in Python, and so are 0.0 and -0.0."""
    for _ in range(2):
        held = [locks.lock("n", value) for value in (1, True, 1.0, "1", 0, False, 0.0, -0.0, [1], [True])]
        try:
            assert all(lock.__enter__() for lock in held)
        finally:
            for lock in held:
                lock.__exit__(None, None, None)


@pytest.mark.usefixtures("on_redis")
def test_settings_are_read_at_each_lock() -> None:
    for lasts in (3, 30):
        with override_settings(DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT=lasts), locks.lock("n") as lock:
            assert lock
            assert lock.lasts(monotonic()) == lasts


def test_locks_need_a_shared_cache() -> None:
    with pytest.raises(TaskConfigurationError, match="LocMemCache"), locks.lock("n"):
        pytest.fail("never reached")


# round trips, and the heartbeat


def test_one_round_trip_to_take_and_one_to_give_back(on_redis: RedisServer) -> None:
    with locks.lock("n"):
        pass
    with on_redis.recording() as recorded:
        with locks.lock("n"):
            pass
        with locks.semaphore("n", max_leases=3):
            pass
    assert [command[0].upper() for command in recorded] == ["EVALSHA"] * 4


def test_claims_and_locks_are_renewed_together(on_redis: RedisServer, declare: Declare) -> None:
    def body(self: Any) -> list[bool]:
        with self.lock() as lock:
            wanted = [(self.claim.holding, 30.0), (lock.holding, 30.0)]
            answers: list[bool] = renewer("cache").renew(wanted)
            assert {self.claim.place, lock.place} == {"cache"}
            return answers

    task = declare(body, base=LockTask, bind=True, unique=True)
    task.apply()  # the server knows the scripts from now on
    with on_redis.recording() as recorded:
        assert task.apply().get() == [True, True]
    assert [command[0] for command in recorded].count("EVAL") == 2, "one pipeline"


@pytest.mark.usefixtures("on_redis")
def test_heartbeat_renews_a_lock_for_as_long_as_it_is_held() -> None:
    with locks.lock("n", lease_timeout=0.4) as lock:
        ends = monotonic() + 1.5
        while monotonic() < ends:
            assert lock
            lock.ensure()
            assert locks.holders("n")
            threading.Event().wait(0.02)
    assert not any(lease.holding.name == "lock:n" for lease in heartbeat.held())


@pytest.mark.usefixtures("on_redis")
def test_lease_whose_holder_was_stopped_before_it_held_it_ends() -> None:
    """A signal can come between taking it and the block that gives it back (SoftTimeLimitExceeded)."""
    wish = acquisition.make_wish("lock", "n", (), lease_timeout=0.5)
    assert acquisition.acquire(wish) is not None  # and nobody keeps it
    wait_until(lambda: locks.holders("n") == [], timeout=3, what="it ended")


# bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 3}, "timeout is how long to wait, and nobody waits without blocking=True"),
        ({"blocking": True, "timeout": -1}, "timeout is -1; give a number of seconds"),
        ({"blocking": True, "timeout": "3"}, "timeout is '3'; give a number"),
        ({"blocking": True, "timeout": float("nan")}, "timeout is nan; give a number"),
        ({"identifier": ""}, "identifier is ''"),
        ({"identifier": 7}, "identifier is 7"),
        ({"lease_timeout": 0}, "lease_timeout is 0; it must be more than 0 seconds"),
    ],
)
@pytest.mark.usefixtures("on_redis")
def test_options_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CeleryError, match=message), locks.lock("n", **arguments):
        pytest.fail("never reached")
    assert locks.holders("n") == []


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "3", None])
@pytest.mark.usefixtures("on_redis")
def test_semaphore_of_no_leases(most: Any) -> None:
    with (
        pytest.raises(InvalidOption, match="max_leases is .*; give a whole number, 1 or more"),
        locks.semaphore("n", max_leases=most),
    ):
        pytest.fail("never reached")


@pytest.mark.usefixtures("on_redis")
def test_semaphore_that_changes_while_held() -> None:
    with (
        locks.semaphore("n", max_leases=3),
        pytest.raises(HolderLimitConflict, match="max_leases=2, but is held with max_leases=3"),
        locks.semaphore("n", max_leases=2),
    ):
        pytest.fail("never reached")


@pytest.mark.parametrize("name", ["", None, 7])
def test_lock_without_a_name(name: Any) -> None:
    with pytest.raises(InvalidOption, match="give a string that is not empty"), locks.lock(name):
        pytest.fail("never reached")


def test_lock_refined_by_what_has_no_json_form() -> None:
    with pytest.raises(InvalidOption, match="the lock n can't be refined by"), locks.lock("n", object()):
        pytest.fail("never reached")


def test_holders_of_an_unknown_kind() -> None:
    with pytest.raises(InvalidOption, match="kind is 'latch'; it can be 'lock', 'semaphore', 'mutex'"):
        locks.holders("n", kind="latch")


def nothing() -> str:
    return "nothing"


def run_in_task(declare: Declare, body: Any, **options: Any) -> Any:
    return declare(body, base=LockTask, bind=True, **options).apply()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"countdown": 3}, "countdown of lock\\(\\) are options of a retry; give retry=True too"),
        ({"retry": True, "count_down": 3}, "lock\\(\\) has no option 'count_down'"),
        ({"retry": True, "timeout": 3}, "nobody waits without blocking=True"),
    ],
)
def test_options_of_a_tasks_lock_that_cannot_be(
    declare: Declare, arguments: dict[str, Any], message: str
) -> None:
    def body(self: Any) -> None:
        with self.lock(**arguments):
            pytest.fail("never reached")

    with pytest.raises(InvalidOption, match=message):
        run_in_task(declare, body).get()


def test_blocking_forces_retry_to_false(declare: Declare) -> None:
    """ZKCelery's rule: no error."""

    def body(self: Any) -> str:
        with (
            self.lock(),
            self.lock(blocking=True, timeout=0.1, retry=True, countdown=3, max_retries=1) as second,
        ):
            return repr(second)

    assert run_in_task(declare, body).get() == "False"


def test_lock_outside_of_a_run(declare: Declare) -> None:
    task = declare(nothing, base=LockTask)
    with (
        pytest.raises(
            TaskConfigurationError, match=r"outside of a run.*locks\.lock\('declared\.nothing', …\)"
        ),
        task.lock(),
    ):
        pytest.fail("never reached")


@pytest.mark.parametrize("keys", [("server",), "server_name", (1,)])
def test_mutex_keys_that_name_no_argument(declare: Declare, keys: Any) -> None:
    def body(server_name: str) -> None: ...

    with pytest.raises(TaskConfigurationError, match=r"declared\.body: mutex_keys "):
        declare(body, base=MutexTask, mutex_keys=keys)


def test_mutex_option_that_is_nearly_one(declare: Declare) -> None:
    with pytest.raises(TaskConfigurationError, match="'mutex_requeued'; did you mean 'mutex_requeue'"):
        declare(nothing, base=MutexTask, mutex_requeued=True)


def test_mutex_outside_of_a_run(declare: Declare) -> None:
    task = declare(nothing, base=MutexTask)
    with pytest.raises(TaskConfigurationError, match="holds no mutex here"):
        _ = task.mutex


# eager runs, direct calls


def test_locks_of_eager_tasks_and_direct_calls(declare: Declare) -> None:
    def body(self: Any) -> bool:
        with self.lock() as lock:
            return bool(lock)

    task = declare(body, base=LockTask, bind=True)
    assert task.apply().get() is True
    assert task.delay().get() is True
    with pytest.raises(TaskConfigurationError, match="LocMemCache"):
        task()  # called as a function it is no eager run, and its lock needs a cache that others see


@pytest.mark.usefixtures("on_redis")
def test_retry_of_a_lock_that_is_held(declare: Declare) -> None:
    def body(self: Any) -> None:
        with self.lock(1, retry=True, countdown=7, max_retries=2):
            pytest.fail("never reached")

    task = declare(body, base=LockTask, bind=True)
    with locks.lock(task.name, 1), pytest.raises(Retry) as caught:
        task.apply(throw=True)
    assert caught.value.when == 7


def test_eager_mutex(declare: Declare) -> None:
    ran = []

    def outer(self: Any, again: bool) -> int:
        ran.append(self.mutex.fence)
        if again:
            state = self.apply((False,)).state
            assert state == "REJECTED"
            inner = self(False)  # a plain call of the function
            assert inner == 2
        return len(ran)

    task = declare(outer, base=MutexTask, bind=True, mutex_requeue=True)
    assert task.apply((True,)).get() == 2
    assert ran[0] == ran[1]


@pytest.mark.usefixtures("on_redis")
def test_direct_call_of_a_mutex_task_is_a_plain_call(declare: Declare) -> None:
    task = declare(nothing, base=MutexTask)
    with locks.lock("other"):
        assert task() == "nothing"


def test_reject_of_a_mutex_is_celerys(declare: Declare) -> None:
    def body(self: Any) -> str:
        return str(self.apply().result)

    task = declare(body, base=MutexTask, bind=True)
    assert "mutex:declared.body is held" in task.apply().get()
    assert issubclass(Reject, Exception)


# outages


@pytest.fixture
def own_server(make_server: MakeServer) -> Iterator[RedisServer]:
    server: RedisServer = make_server(RedisServer)
    cache = redis_cache(server.url)
    cache["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] = cache["OPTIONS"]["SOCKET_TIMEOUT"] = 0.3
    cache["OPTIONS"]["CONNECTION_POOL_KWARGS"] = {"retry": None}
    with override_settings(CACHES={"default": cache}):
        yield server


def test_outage_is_not_somebody_else(own_server: RedisServer) -> None:
    own_server.kill()
    with pytest.raises(StoreUnavailable, match="can't be used"), locks.lock("n"):
        pytest.fail("never reached")


def test_outage_with_retry_retries_the_task(own_server: RedisServer, declare: Declare) -> None:
    tries = []

    def body(self: Any) -> str:
        tries.append(self.request.retries)
        if len(tries) == 2:
            own_server.restart()
        with self.lock(retry=True, countdown=0, max_retries=2) as lock:
            return "locked" if lock else "held"

    own_server.kill()
    assert run_in_task(declare, body).get() == "locked"
    assert tries == [0, 1]


def test_outage_with_retry_ends_in_the_stores_error(own_server: RedisServer, declare: Declare) -> None:
    def body(self: Any) -> None:
        with self.lock(retry=True, countdown=0, max_retries=1):
            pytest.fail("never reached")

    own_server.kill()
    with pytest.raises(StoreUnavailable):
        run_in_task(declare, body).get()


def test_who_waits_bears_a_short_outage(own_server: RedisServer) -> None:
    held = threading.Event()

    def wait_for_lock() -> None:
        with locks.lock("n", blocking=True) as lock:
            assert lock
            held.set()

    own_server.kill()
    thread = threading.Thread(target=wait_for_lock)
    thread.start()
    assert not held.wait(0.8)
    own_server.restart()
    assert held.wait(10)
    thread.join(10)


def test_who_waits_does_not_bear_it_for_ever(own_server: RedisServer) -> None:
    own_server.kill()
    began = monotonic()
    with pytest.raises(StoreUnavailable), locks.lock("n", blocking=True, lease_timeout=1):
        pytest.fail("never reached")
    assert 1 <= monotonic() - began < 4


def test_lock_that_was_taken_unknowingly_is_given_back(own_server: RedisServer) -> None:
    """The server reads the command when it is thawed, and the caller is long gone: nobody would renew, or end it."""
    with locks.lock("warm up the connection"):
        pass
    with own_server.frozen(), pytest.raises(StoreUnavailable), locks.lock("n", lease_timeout=60):
        pytest.fail("never reached")
    wait_until(lambda: locks.holders("n") == [], timeout=10, what="the ghost is gone")
    with locks.lock("n") as lock:
        assert lock


def test_give_back_in_an_outage_hides_nothing_and_is_done_later(own_server: RedisServer) -> None:
    def fail_in_an_outage() -> None:
        with locks.lock("n", lease_timeout=60):
            own_server.freeze()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail_in_an_outage()
    own_server.thaw()
    wait_until(lambda: locks.holders("n") == [], timeout=10, what="it is given back")


def test_answer_that_came_too_late_is_no_lock(on_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust counts from the asking: what is over when its answer comes was never held."""
    store = type(lease_store(eager=True))
    take = store.take

    def slowly(self: Any, ask: Any) -> Any:
        grant = take(self, ask)
        threading.Event().wait(0.3)
        return grant

    monkeypatch.setattr(store, "take", slowly)
    with (
        pytest.raises(StoreUnavailable, match="when that was over again"),
        locks.lock("n", lease_timeout=0.2),
    ):
        pytest.fail("never reached")


def test_lock_needs_no_configuration_to_be_measured_in_timedeltas(on_redis: RedisServer) -> None:
    with locks.lock("n", lease_timeout=timedelta(seconds=3)) as lock:
        assert lock
        assert lock.lasts(monotonic()) == 3
    assert acquisition.RETRY_SECONDS > 0
