"""Leases in ZooKeeper when processes, servers and connections fail."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from django_celery_extensions.exceptions import HolderLimitConflict, StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores import lease_store, zookeeper_nodes, zookeeper_session, zookeeper_steps
from django_celery_extensions.stores.leases import LeaseAsk, LeaseHolding
from tests.servers import free_port
from tests.servers_zookeeper import TICK, ZooKeeperServer
from tests.waiting import wait_until
from tests.zookeeper_member import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from django_celery_extensions.stores.leases import LeaseStore
    from tests.conftest import MakeServer
    from tests.servers_zookeeper import ZooKeeperEnsemble

    UseZooKeeper = Callable[[str], None]

pytestmark = pytest.mark.integration

#: Seconds of a session, in most tests.
LASTS = 2.0


@pytest.fixture(autouse=True)
def short_sessions(settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = LASTS


@pytest.fixture
def name() -> str:
    return f"test-{uuid4()}"


@pytest.fixture
def make_member(zookeeper_server: ZooKeeperServer) -> Iterator[Callable[..., Member]]:
    """A maker of other processes, on `zookeeper_server` unless another one's hosts are given."""
    with ExitStack() as stack:

        def make(
            hosts: str = zookeeper_server.url, *, timeout: float = LASTS, gevent: bool = False
        ) -> Member:
            return stack.enter_context(Member(hosts, timeout=timeout, gevent=gevent))

        yield make


def ask(name: str, token: str = "t", **given: Any) -> LeaseAsk:
    return LeaseAsk(**{"name": name, "token": token, "owner": "test", "lasts": LASTS, **given})


def take(store: LeaseStore, name: str, token: str = "t", **given: Any) -> LeaseHolding:
    holding = store.take(ask(name, token, **given)).holding
    assert holding is not None
    return holding


def free(store: LeaseStore, name: str, token: str, **given: Any) -> bool:
    return store.take(ask(name, token, **given)).holding is not None


# many


@pytest.mark.parametrize("most", [1, 2])
def test_never_more_holders_than_allowed(make_member: Callable[..., Member], name: str, most: int) -> None:
    members = [make_member() for _ in range(5)]
    for member in members:
        member.begin("work", name, most, 2.0)
    spans = sorted(span for member in members for span in member.outcome())
    assert len(spans) > 20
    changes = sorted(change for began, ended, _ in spans for change in ((began, 1), (ended, -1)))
    holders = most_at_once = 0
    for _, change in changes:
        holders += change
        most_at_once = max(most_at_once, holders)
    assert most_at_once == most
    fences = [fence for _, _, fence in spans]
    assert len(set(fences)) == len(fences)
    if most == 1:
        assert fences == sorted(fences)


def test_limits_that_compete_never_hold_at_once(zookeeper_store: LeaseStore, name: str) -> None:
    """Some ask for one holder, some for two: whoever is told to hold, nobody holds under the other limit."""
    holding: set[tuple[str, int]] = set()
    lock = threading.Lock()
    wrong: list[Any] = []
    got = {1: 0, 2: 0}
    ends = monotonic() + 2

    def run(token: str, most: int) -> None:
        while monotonic() < ends:
            try:
                held = zookeeper_store.take(ask(name, token, most=most)).holding
            except HolderLimitConflict:
                continue
            if held is None:
                continue
            with lock:
                got[most] += 1
                holding.add((token, most))
                if len({limit for _, limit in holding}) > 1 or len(holding) > most:
                    wrong.append(set(holding))
            time.sleep(0.001)
            with lock:
                holding.discard((token, most))
            zookeeper_store.give_back(held)

    threads = [threading.Thread(target=run, args=(f"t{at}", at % 2 + 1)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert got[1] > 0
    assert got[2] > 0


def test_nodes_of_names_do_not_pile_up(
    zookeeper_store: LeaseStore, zookeeper_server: ZooKeeperServer, name: str
) -> None:
    before = int(zookeeper_server.word("mntr").split("zk_znode_count\t")[1].split()[0])
    for number in range(50):
        holding = take(zookeeper_store, f"{name}-{number}")
        assert not free(zookeeper_store, f"{name}-{number}", "u", waits=True)
        zookeeper_store.give_back(holding)
        zookeeper_store.leave(ask(f"{name}-{number}", "u"))
    zookeeper_store.holders(name)
    after = int(zookeeper_server.word("mntr").split("zk_znode_count\t")[1].split()[0])
    assert after <= before + 2  # the root, where this is the first test


# processes that end


def test_killed_holder_frees_its_slot_within_a_session_and_no_other(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    dead, living = make_member(), make_member()
    assert dead("take", name, "dead", 2)
    assert living("take", name, "living", 2)
    assert not free(zookeeper_store, name, "next", most=2)
    dead.kill()
    began = monotonic()
    wait_until(lambda: free(zookeeper_store, name, "next", most=2), timeout=LASTS + 1)
    assert monotonic() - began > LASTS / 3, "nobody but the server can tell that it is dead"
    assert [holder.token for holder in zookeeper_store.holders(name)] == ["living", "next"]
    assert living("renew", "living") is True


def test_process_that_ends_frees_its_slots_at_once(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    member = make_member(timeout=20)
    assert member("take", name, "t")
    assert member.end() == 0
    assert free(zookeeper_store, name, "next")


def test_frozen_holder_has_lost_it_for_good(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    member = make_member()
    fence = member("take", name, "frozen")
    member.freeze()
    wait_until(lambda: free(zookeeper_store, name, "next"), timeout=LASTS + 1)
    (holder,) = zookeeper_store.holders(name)
    assert holder.fence > fence
    member.thaw()

    def renewed() -> list[bool]:
        try:
            return [member("renew", "frozen")]
        except RuntimeError as exc:  # its connection is made anew: that may take longer than it waits
            if "StoreUnavailable" not in str(exc):
                raise
            return []

    assert wait_until(renewed, timeout=15) == [False]
    assert member("renew", "frozen") is False
    assert member("give_back", "frozen") is False
    assert [holder.token for holder in zookeeper_store.holders(name)] == ["next"]
    assert member("take", name, "again") is None, "it takes part again"


def test_forked_child_has_a_session_of_its_own(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    member = make_member(timeout=10)
    assert member("take", name, "t")
    seen = member("fork", name, "t")
    assert seen["child"]["held"] is None
    assert seen["child"]["other"] is not None
    assert seen["child"]["session"] != seen["session"]
    assert seen["renewed"] is True
    assert free(zookeeper_store, f"{name}/child", "u"), "the child has closed its own session at its end"
    assert not free(zookeeper_store, name, "u"), "and not its parent's"
    assert member("give_back", "t") is True


# waiting


def test_waiters_are_served_in_order_and_at_once(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    members = [make_member() for _ in range(4)]
    holding = take(zookeeper_store, name)
    for at, member in enumerate(members):
        assert member("take", name, f"w{at}", 1, True) is None
        member.begin("take_waiting", name, f"w{at}")
    given_back = monotonic()
    assert zookeeper_store.give_back(holding)
    fences, late = [], []
    for at, member in enumerate(members):
        fence, granted_at = member.outcome()
        fences.append(fence)
        late.append(granted_at - given_back)
        given_back = monotonic()
        assert member("give_back", f"w{at}") is True
    assert fences == sorted(fences)
    assert sorted(late)[1] < 0.25, f"woken, not found out by looking: {late}"


def test_dead_waiter_does_not_block_the_next(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    holding = take(zookeeper_store, name)
    dead = make_member()
    dead("take", name, "dead", 1, True)
    assert not free(zookeeper_store, name, "next", waits=True)
    dead.kill()
    zookeeper_store.give_back(holding)
    wait_until(lambda: free(zookeeper_store, name, "next", waits=True), timeout=LASTS + 1)


def test_who_does_not_wait_leaves_nothing(
    zookeeper_store: LeaseStore, zookeeper_server: ZooKeeperServer, name: str
) -> None:
    take(zookeeper_store, name)
    for _ in range(3):
        assert not free(zookeeper_store, name, "u")
    nodes = [path for paths in zookeeper_server.ephemerals().values() for path in paths if name in path]
    assert len(nodes) == 2, nodes


# round trips


@contextmanager
def waves() -> Iterator[list[int]]:
    """Yield a list that gets, for each round trip of this thread, how many requests went together."""
    client, me = zookeeper_session.current_client(), threading.get_ident()
    plain, sent = client.ask, list[int]()

    def asks(*requests: Any, **given: Any) -> Any:
        if threading.get_ident() == me:  # the heartbeat may have debts of an earlier test
            sent.append(len(requests))
        return plain(*requests, **given)

    client.ask = asks  # type: ignore[method-assign]
    yield sent
    client.ask = plain  # type: ignore[method-assign]


@pytest.mark.parametrize("most", [1, 3])
def test_free_name_takes_one_request_and_another_one_to_give_back(
    zookeeper_store: LeaseStore, name: str, most: int
) -> None:
    zookeeper_store.give_back(take(zookeeper_store, f"{name} before"))
    with waves() as sent:
        for number in range(3):
            holding = take(zookeeper_store, name, f"t{number}", most=most, waits=True)
            assert zookeeper_store.give_back(holding)
    assert sent == [1, 1] * 3


def test_who_is_woken_takes_it_in_one_request(
    zookeeper_store: LeaseStore, make_member: Callable[..., Member], name: str
) -> None:
    """And whoever gives it back needs one round trip, once it has met somebody who waits."""
    member = make_member()
    for number in range(3):
        assert member("take", name, f"t{number}") is not None
        waits = ask(name, f"w{number}", waits=True)
        assert zookeeper_store.take(waits).holding is None
        member.begin("give_back", f"t{number}")
        zookeeper_store.wait(waits, 5)
        member.outcome()
        with waves() as sent:
            holding = zookeeper_store.take(waits).holding
            assert holding is not None
        assert sent == [1]
        assert member("take", name, "waits", 1, True) is None
        with waves() as sent:
            assert zookeeper_store.give_back(holding)
        assert sent == ([1, 2] if number == 0 else [2])
        assert member("take", name, "waits", 1, True) is not None
        assert member("give_back", "waits")
    with waves() as sent:
        for number in range(3):
            assert zookeeper_store.give_back(take(zookeeper_store, name, f"alone {number}"))
    assert sent[-4:] == [1, 1, 1, 1], "nobody waits any more"


def test_turn_in_the_queue_is_worth_nothing_while_somebody_holds(
    zookeeper_store: LeaseStore, name: str
) -> None:
    holding = take(zookeeper_store, name)
    waits = ask(name, "w", waits=True)
    assert zookeeper_store.take(waits).holding is None
    bell = zookeeper_session.current_client().bell("w")
    for path in (f"{zookeeper_nodes.limit_path(name, 1)}/wait=w=0000000000", "/gone"):
        bell.turn = path
        assert zookeeper_store.take(waits).holding is None
        assert [holder.token for holder in zookeeper_store.holders(name)] == ["t"]
    zookeeper_store.give_back(holding)
    bell.turn = "/gone"
    assert zookeeper_store.take(waits).holding is not None


def test_what_others_hold_is_not_tried_in_vain(
    zookeeper_store: LeaseStore,
    make_member: Callable[..., Member],
    zookeeper_server: ZooKeeperServer,
    name: str,
) -> None:
    """Every server would write it down."""

    def written() -> str:
        return zookeeper_server.word("srvr").split("Zxid: ")[1].split()[0]

    assert make_member()("take", name, "holder") is not None
    assert not free(zookeeper_store, name, "t")
    before = written()
    for _ in range(5):
        assert not free(zookeeper_store, name, "t")
    assert written() == before


# requests whose outcome is not known


@pytest.mark.parametrize("waits", [False, True])
def test_request_that_was_not_answered_leaves_nothing_behind(
    make_server: MakeServer,
    use_zookeeper: UseZooKeeper,
    settings: SettingsWrapper,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    waits: bool,
) -> None:
    """The server freezes with our request in its hands, and carries it out later. `leave` pays that debt."""
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = 10.0
    server = make_server(ZooKeeperServer)
    use_zookeeper(server.url)
    store = lease_store()
    step = "queue" if waits else "make"
    real = getattr(zookeeper_steps, step)

    def freeze_and_send(*args: Any, **kwargs: Any) -> Any:
        server.freeze()
        return real(*args, **kwargs)

    take(store, name if waits else f"{name}-other", "holder")
    monkeypatch.setattr(zookeeper_steps, step, freeze_and_send)
    began = monotonic()
    with pytest.raises(StoreUnavailable):
        store.take(ask(name, "lost", waits=waits))
    assert monotonic() - began < 6
    monkeypatch.undo()
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = 10.0
    server.thaw()
    wanted = "wait=lost" if waits else "hold=0=lost"
    wait_until(
        lambda: any(wanted in path for paths in server.ephemerals().values() for path in paths),
        timeout=3,
        what="the request is carried out after all: the wedge",
    )
    store.leave(ask(name, "lost"))
    store.leave(ask(name, "lost"))
    paths = [path for paths in server.ephemerals().values() for path in paths]
    assert not any("lost" in path for path in paths), paths
    if not waits:
        assert free(store, name, "next")


def test_leave_that_cannot_know_says_so(
    make_server: MakeServer, use_zookeeper: UseZooKeeper, name: str
) -> None:
    server = make_server(ZooKeeperServer)
    use_zookeeper(server.url)
    store = lease_store()
    holding = take(store, name)
    server.kill()
    for step in (
        lambda: store.leave(ask(name)),
        lambda: store.give_back(holding),
        lambda: store.renew([(holding, LASTS)]),
        lambda: store.take(ask(name, "u")),
        lambda: store.wait(ask(name, "u"), 0.1),
        lambda: store.holders(name),
    ):
        began = monotonic()
        with pytest.raises(StoreUnavailable):
            step()
        assert monotonic() - began < LASTS + 1


# servers that fail


def connected_to(ensemble: ZooKeeperEnsemble) -> Any:
    """Return the member that this process is connected to."""
    client = zookeeper_session.current_client()
    port = client._kazoo._connection._socket.getpeername()[1]
    return next(member for member in ensemble.members if member.port == port)


def renewed(store: LeaseStore, holding: LeaseHolding) -> bool | None:
    """Renew as the heartbeat does; None where it can't be known."""
    try:
        return store.renew([(holding, LASTS)])[0]
    except StoreUnavailable:
        return None


@pytest.mark.parametrize("which", ["the connected one", "the leader"])
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_holding_outlives_one_server(
    zookeeper_ensemble: ZooKeeperEnsemble,
    use_zookeeper: UseZooKeeper,
    settings: SettingsWrapper,
    name: str,
    which: str,
    how: str,
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = 20.0
    use_zookeeper(zookeeper_ensemble.hosts)
    store = lease_store()
    holding = take(store, name)
    member = connected_to(zookeeper_ensemble) if which == "the connected one" else zookeeper_ensemble.leader
    getattr(member, how)()
    began = monotonic()
    wait_until(lambda: renewed(store, holding), timeout=15)
    took = monotonic() - began
    assert took < 20 * (1 - store.margin), f"{took:.1f} s: a new server comes too late for the lease"
    assert not free(store, name, "u")
    assert store.give_back(holding) is True
    assert take(store, name, "u").fence > holding.fence


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_renewal_needs_a_quorum(
    zookeeper_ensemble: ZooKeeperEnsemble, use_zookeeper: UseZooKeeper, name: str, role: str
) -> None:
    """A server that lost the others answers for a while: that is no proof that the session is alive."""
    alone = zookeeper_ensemble.leader if role == "leader" else zookeeper_ensemble.followers[0]
    use_zookeeper(alone.url)
    store = lease_store()
    holding = take(store, name)
    assert store.renew([(holding, LASTS)]) == [True]
    for member in zookeeper_ensemble.members:
        if member is not alone:
            member.freeze()
    with pytest.raises(StoreUnavailable):
        store.renew([(holding, LASTS)])


def test_whole_ensemble_down_and_back(
    zookeeper_ensemble: ZooKeeperEnsemble, use_zookeeper: UseZooKeeper, name: str
) -> None:
    use_zookeeper(zookeeper_ensemble.hosts)
    store = lease_store()
    holding = take(store, name)
    zookeeper_ensemble.kill()
    for _ in range(2):
        began = monotonic()
        with pytest.raises(StoreUnavailable):
            store.take(ask(name, "u"))
        assert monotonic() - began < LASTS + 1
    assert renewed(store, holding) is None
    zookeeper_ensemble.heal()

    def taken() -> bool:
        try:
            return free(store, f"{name}-2", "u")
        except StoreUnavailable:
            return False

    wait_until(taken, timeout=10)


def test_frozen_ensemble_grants_nothing(
    zookeeper_ensemble: ZooKeeperEnsemble, use_zookeeper: UseZooKeeper, name: str
) -> None:
    use_zookeeper(zookeeper_ensemble.hosts)
    store = lease_store()
    take(store, f"{name}-before")
    with zookeeper_ensemble.frozen():
        began = monotonic()
        for token in ("a", "b"):
            with pytest.raises(StoreUnavailable):
                store.take(ask(name, token))
        with pytest.raises(StoreUnavailable):
            store.wait(ask(name, "a"), 0.1)
        assert monotonic() - began < 3 * (LASTS + 1)


def test_lost_session_is_final(
    zookeeper_store: LeaseStore, zookeeper_server: ZooKeeperServer, name: str
) -> None:
    from kazoo.client import KazooClient

    holding = take(zookeeper_store, name)
    mine = zookeeper_session.current_client()._kazoo
    thief = KazooClient(zookeeper_server.url, timeout=LASTS, client_id=mine.client_id)
    thief.start()
    thief.stop()  # ends the session, which is ours
    thief.close()
    wait_until(lambda: renewed(zookeeper_store, holding) is False, timeout=10)
    again = take(zookeeper_store, name, "again")
    assert again.session != holding.session
    assert again.fence > holding.fence
    assert zookeeper_store.renew([(holding, LASTS), (again, LASTS)]) == [False, True]
    assert zookeeper_store.give_back(holding) is False
    assert not free(zookeeper_store, name, "other")


def test_half_reachable_ensemble_is_used(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper, name: str
) -> None:
    """Servers that take connections and say nothing, or don't even take them, cost no more than the bound."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16)) for _ in range(2)]
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # nobody takes them, so that the next ones are not even answered
            stuffing = stack.enter_context(socket.socket())
            stuffing.setblocking(False)
            stuffing.connect_ex(full.getsockname())
        ports = [each.getsockname()[1] for each in (*silent, full)]
        hosts = ",".join([*(f"127.0.0.1:{port}" for port in ports), zookeeper_server.url])
        for _ in range(3):
            use_zookeeper(hosts)
            began = monotonic()
            holding = take(lease_store(), name)
            assert monotonic() - began < LASTS + 0.5
            assert lease_store().give_back(holding)


# the session


def test_tls(
    make_server: MakeServer,
    use_zookeeper: UseZooKeeper,
    settings: SettingsWrapper,
    name: str,
    tmp_path: Path,
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = 10.0
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    key, cert, port = tmp_path / "key.pem", tmp_path / "cert.pem", free_port()
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=zk"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + cert.read_text())
    make_server(
        ZooKeeperServer,
        f"secureClientPort={port}",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={both}",
        f"ssl.trustStore.location={cert}",
        "ssl.clientAuth=none",
    )
    settings.CELERY_ZOOKEEPER_OPTIONS = {"use_ssl": True, "ca": str(cert), "check_hostname": True}
    use_zookeeper(f"127.0.0.1:{port}")
    holding = take(lease_store(), name)
    assert lease_store().renew([(holding, LASTS)]) == [True]
    assert lease_store().give_back(holding)


def test_length_of_a_lease_is_what_the_servers_grant(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper, settings: SettingsWrapper, name: str
) -> None:
    for number, (asked, granted) in enumerate([(0.1, 2 * TICK), (3.0, 3.0), (100.0, 60.0)]):
        settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = asked
        use_zookeeper(zookeeper_server.url)
        settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = asked
        grant = wait_until(lambda n=number: _granted(f"{name}-{n}"), timeout=10)
        assert grant.lasts == granted


def _granted(name: str) -> Any:
    try:
        return lease_store().take(ask(name))
    except StoreUnavailable:  # the bound follows LOCK_TIMEOUT, and a tenth of a second is little
        return None


def test_session_is_kept_alive_ten_times_in_its_timeout(
    make_server: MakeServer, use_zookeeper: UseZooKeeper, settings: SettingsWrapper, name: str
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = 10.0
    server = make_server(ZooKeeperServer)
    use_zookeeper(server.url)
    take(lease_store(), name)

    def received() -> int:
        return int(server.word("mntr").split("zk_packets_received\t")[1].split()[0])

    before = received()
    time.sleep(5)
    assert received() - before - 1 >= 4  # kazoo by itself: one or two


def test_credentials_guard_the_nodes(
    make_server: MakeServer, use_zookeeper: UseZooKeeper, settings: SettingsWrapper, name: str
) -> None:
    from kazoo.security import make_digest_acl

    server = make_server(ZooKeeperServer)
    acl = [make_digest_acl("us", "secret", all=True)]
    settings.CELERY_ZOOKEEPER_OPTIONS = {"auth_data": [("digest", "us:secret")], "default_acl": acl}
    use_zookeeper(server.url)
    assert lease_store().give_back(take(lease_store(), name))
    settings.CELERY_ZOOKEEPER_OPTIONS = {}
    use_zookeeper(server.url)
    with pytest.raises(TaskConfigurationError, match="credentials in zookeeper_options"):
        lease_store().take(ask(name))


def test_chroot_is_used_and_must_be_there(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper, name: str
) -> None:
    use_zookeeper(f"{zookeeper_server.url}/not/there")
    with pytest.raises(TaskConfigurationError, match="chroot"):
        lease_store().take(ask(name))
    use_zookeeper(f"{zookeeper_server.url}/there")
    store = lease_store()
    holding = take(store, name)
    paths = [path for paths in zookeeper_server.ephemerals().values() for path in paths]
    assert any(path.startswith("/there" + zookeeper_nodes.ROOT) for path in paths)
    assert [holder.token for holder in store.holders(name)] == ["t"]
    assert store.renew([(holding, LASTS)]) == [True]
    assert store.give_back(holding)


@pytest.mark.parametrize(
    "odd", ["", ".", "..", "/", "a/b", "../..", "é漢 字", "\x00\n\x7f", "x" * 5000, "\ud800", "a=b"]
)
def test_no_name_leaves_its_node(
    zookeeper_store: LeaseStore, zookeeper_server: ZooKeeperServer, odd: str
) -> None:
    holding = take(zookeeper_store, odd, odd or "token")
    assert not free(zookeeper_store, odd, "u", waits=True)
    (holder,) = zookeeper_store.holders(odd)
    assert (holder.name, holder.token) == (odd, odd or "token")
    for paths in zookeeper_server.ephemerals().values():
        for path in paths:
            assert path.startswith(zookeeper_nodes.ROOT + "/n=")
            assert path.count("/") == zookeeper_nodes.ROOT.count("/") + 3
    zookeeper_store.leave(ask(odd, "u"))
    assert zookeeper_store.renew([(holding, LASTS)]) == [True]
    assert zookeeper_store.evict(holder) is True
    assert free(zookeeper_store, odd, "v")


def test_gevent(make_member: Callable[..., Member], zookeeper_store: LeaseStore, name: str) -> None:
    pytest.importorskip("gevent")
    member = make_member(gevent=True)
    fences = member("threads", name, 2, 10)
    assert len(fences) == 2
    assert member("handler") == "SequentialGeventHandler"
    for holder in zookeeper_store.holders(name):
        assert zookeeper_store.evict(holder)
    holding = take(zookeeper_store, name, most=2)
    other = take(zookeeper_store, name, "t2", most=2)
    member("take", name, "waits", 2, True)
    member.begin("take_waiting", name, "waits", 2)
    given_back = monotonic()
    zookeeper_store.give_back(holding)
    assert member.outcome()[1] - given_back < 1
    assert zookeeper_store.renew([(other, LASTS)]) == [True]
    assert member("give_back", "waits") is True
    assert member.end() == 0
