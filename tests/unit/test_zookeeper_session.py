"""What the configuration says about ZooKeeper, and the one session of a process."""

from __future__ import annotations

import subprocess
import sys
import threading
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores import zookeeper, zookeeper_hosts, zookeeper_session
from django_celery_extensions.stores.zookeeper_client import ZooKeeperClient, client_options
from django_celery_extensions.stores.zookeeper_hosts import parse_hosts
from tests.servers import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.servers_zookeeper import ZooKeeperServer

    UseZooKeeper = Callable[[str], None]


# hosts


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("zk1", "zk1:2181"),
        ("127.0.0.1:2181", "127.0.0.1:2181"),
        ("zk1:2181,zk2:2182,[::1]:2183", "zk1:2181,zk2:2182,[::1]:2183"),
        (" zk1 , zk-2.example.org.:1 ", "zk1:2181,zk-2.example.org.:1"),
        ("[fe80::1]", "[fe80::1]:2181"),
        ("zk1,zk2/celery", "zk1:2181,zk2:2181/celery"),
        ("zk1:65535/a/b", "zk1:65535/a/b"),
    ],
)
def test_hosts_as_kazoo_takes_them(given: str, parsed: str) -> None:
    from kazoo.hosts import collect_hosts

    assert parse_hosts(given) == parsed
    hosts, chroot = collect_hosts(parsed)
    assert len(hosts) == parsed.count(",") + 1
    assert (chroot or "") == parsed[len(parsed.partition("/")[0]) :]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("", "names no host"),
        ("  ", "names no host"),
        ("/celery", "names no host"),
        (None, "is not a string"),
        (["zk1:2181"], "is not a string"),
        (b"zk1:2181", "is not a string"),
        (2181, "is not a string"),
        ("zk1,,zk2", "empty part"),
        ("zk1,", "empty part"),
        ("zk1:", "no port"),
        ("zk1:0", "no port"),
        ("zk1:65536", "no port"),
        ("zk1:http", "no port"),
        ("zk1:21 81", "no port"),
        ("zk1:²", "no port"),
        (":2181", "no host name"),
        ("zk_1!:2181", "no host name"),
        ("zk1 zk2", "no host name"),
        ("zk1;zk2", "no host name"),
        ("::1", "in brackets"),
        ("::1:2181", "in brackets"),
        ("http://zk1:2181", "has 'http:'"),
        ("[::1", "in brackets"),
        ("[zk1]:2181", "no IPv6 address"),
        ("[::1]2181", "in brackets"),
        ("[::1]:", "no port"),
        ("zk1/", "chroot"),
        ("zk1//a", "chroot"),
        ("zk1/a/../b", "chroot"),
    ],
)
def test_bad_hosts_are_told(given: object, what: str) -> None:
    with pytest.raises(TaskConfigurationError) as caught:
        parse_hosts(given)
    assert what in str(caught.value)
    assert repr(given) in str(caught.value)
    assert "zk1:2181,zk2:2181,[::1]:2183" in str(caught.value), "it says how to fix it"


@pytest.fixture
def make_app() -> Iterator[Callable[[], Celery]]:
    """A maker of apps that nobody else sees."""
    apps: list[Celery] = []

    def make() -> Celery:
        apps.append(Celery("other", set_as_current=False))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


def _from_object(app: Celery, **given: str) -> None:
    module = ModuleType("configuration")
    vars(module).update(given)
    app.config_from_object(module)


@pytest.mark.parametrize(
    "configure",
    [
        lambda app: setattr(app.conf, "zookeeper_hosts", "zk7"),
        lambda app: setattr(app.conf, "ZOOKEEPER_HOSTS", "zk7"),
        lambda app: app.conf.update(ZOOKEEPER_HOSTS="zk7"),
        lambda app: app.conf.update(zookeeper_hosts="zk7"),
        lambda app: _from_object(app, zookeeper_hosts="zk7"),
        lambda app: _from_object(app, ZOOKEEPER_HOSTS="zk7"),
        lambda app: _from_object(app, ZOOKEEPER_HOSTS="zk7", BROKER_URL="memory://"),
        lambda app: _from_object(app, CELERY_ZOOKEEPER_HOSTS="zk7", CELERY_TASK_ALWAYS_EAGER=True),
        lambda app: _from_object(app, zookeeper_hosts="zk7", broker_url="memory://"),
    ],
)
def test_hosts_are_found_however_they_are_spelled(
    make_app: Callable[[], Celery], configure: Callable[[Celery], Any]
) -> None:
    assert zookeeper_hosts.hosts() == "127.0.0.1:2181"
    configure(make_app())
    assert zookeeper_hosts.hosts() == "zk7:2181"


@pytest.mark.parametrize("namespace", ["CELERY", "PROJECT"])
def test_hosts_of_a_namespace(
    make_app: Callable[[], Celery], settings: SettingsWrapper, namespace: str
) -> None:
    setattr(settings, f"{namespace}_ZOOKEEPER_HOSTS", "zk7")
    make_app().config_from_object("django.conf:settings", namespace=namespace)
    assert zookeeper_hosts.hosts() == "zk7:2181"


@pytest.mark.parametrize("spelling", ["zookeeper_hosts", "ZOOKEEPER_HOSTS"])
def test_app_beats_django_settings(settings: SettingsWrapper, spelling: str) -> None:
    from tests.project.celery import app

    settings.CELERY_ZOOKEEPER_HOSTS = "zk7"
    assert zookeeper_hosts.hosts() == "zk7:2181"
    app.conf.update({spelling: "zk8"})
    assert zookeeper_hosts.hosts() == "zk8:2181"


def test_every_thread_finds_the_same_hosts(settings: SettingsWrapper) -> None:
    """`current_app` of another thread is another app, where none was made the default in time."""
    settings.CELERY_ZOOKEEPER_HOSTS = "zk7"
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(zookeeper_hosts.hosts()))
    thread.start()
    thread.join()
    assert found == ["zk7:2181"]


def test_apps_that_differ_are_refused(make_app: Callable[[], Celery], settings: SettingsWrapper) -> None:
    settings.CELERY_ZOOKEEPER_HOSTS = "zk7"
    app = make_app()
    app.conf.zookeeper_hosts = "zk7"
    assert zookeeper_hosts.hosts() == "zk7:2181"
    app.conf.zookeeper_hosts = "zk8"
    with pytest.raises(TaskConfigurationError, match="different zookeeper_hosts: 'zk[78]', 'zk[78]'"):
        zookeeper_hosts.hosts()


# options


def test_options_reach_kazoo(settings: SettingsWrapper, tmp_path: Any) -> None:
    pytest.importorskip("kazoo")
    options = {
        "use_ssl": True,
        "ca": str(tmp_path / "ca.pem"),
        "certfile": "cert.pem",
        "keyfile": "key.pem",
        "keyfile_password": "secret",
        "verify_certs": False,
        "check_hostname": False,
        "auth_data": [("digest", "us:secret")],
        "randomize_hosts": False,
    }
    settings.CELERY_ZOOKEEPER_OPTIONS = options
    assert zookeeper_hosts.options() == options
    client = ZooKeeperClient(f"127.0.0.1:{free_port()}", zookeeper_hosts.options(), timeout=10, within=0.5)
    try:
        for name, value in options.items():
            expected = set(value) if name == "auth_data" else value
            assert getattr(client._kazoo, name) == expected
    finally:
        client.close()


def test_sasl_options_reach_kazoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "puresasl", ModuleType("puresasl"))
    monkeypatch.setattr("django_celery_extensions.stores.zookeeper_client.find_spec", lambda _: object())
    sasl = {"mechanism": "DIGEST-MD5", "username": "us", "password": "secret"}
    client = ZooKeeperClient(f"127.0.0.1:{free_port()}", {"sasl_options": sasl}, timeout=10, within=0.5)
    try:
        assert client._kazoo._connection.sasl_options == sasl
        assert client._kazoo._connection.sasl_options is not sasl, "kazoo adds to it"
    finally:
        client.close()


def test_sasl_without_its_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_celery_extensions.stores.zookeeper_client.find_spec", lambda _: None)
    with pytest.raises(TaskConfigurationError, match="pip install pure-sasl"):
        client_options({"sasl_options": {"mechanism": "DIGEST-MD5"}})


@pytest.mark.parametrize("name", ["usessl", "hosts", "timeout", "handler", "client_id", "read_only"])
def test_option_that_is_not_for_the_project_is_refused(settings: SettingsWrapper, name: str) -> None:
    settings.CELERY_ZOOKEEPER_OPTIONS = {name: 1}
    with pytest.raises(TaskConfigurationError, match=f"has '{name}'.* use_ssl"):
        zookeeper.check()


@pytest.mark.parametrize("value", ["use_ssl", ["use_ssl"], {1: 2}, True])
def test_options_that_are_no_dict_are_refused(settings: SettingsWrapper, value: object) -> None:
    settings.CELERY_ZOOKEEPER_OPTIONS = value
    with pytest.raises(TaskConfigurationError, match="give a dict"):
        zookeeper.check()


def test_value_that_kazoo_refuses_is_told() -> None:
    with pytest.raises(TaskConfigurationError, match="zookeeper_options"):
        ZooKeeperClient("zk1:2181", {"auth_data": ["digest"]}, timeout=10, within=0.5)


def test_check_connects_to_nothing(settings: SettingsWrapper) -> None:
    settings.CELERY_ZOOKEEPER_HOSTS = f"127.0.0.1:{free_port()}"
    zookeeper.check()
    settings.CELERY_ZOOKEEPER_HOSTS = "zk1,,zk2"
    with pytest.raises(TaskConfigurationError, match="empty part"):
        zookeeper.check()
    assert not [thread for thread in threading.enumerate() if "zk_loop" in thread.name]


def test_kazoo_missing_is_told() -> None:
    program = """
import sys
sys.modules["kazoo"] = None
import django
django.setup()
from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.stores import zookeeper
for step in (zookeeper.lease_store, zookeeper.check):
    try:
        step()
    except TaskConfigurationError as exc:
        print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.count("pip install django-celery-extensions[zookeeper]") == 2


# the session


def test_threads_share_one_session(zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper) -> None:
    use_zookeeper(zookeeper_server.url)
    clients: list[ZooKeeperClient] = []
    gun = threading.Barrier(8)

    def run() -> None:
        gun.wait(10)
        clients.append(zookeeper_session.current_client())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1


def test_unreachable_server_is_told_in_time_and_found_later(use_zookeeper: UseZooKeeper) -> None:
    from tests.servers_zookeeper import ZooKeeperServer

    server = ZooKeeperServer()
    try:
        use_zookeeper(server.url)
        client = zookeeper_session.current_client()
        with pytest.raises(StoreUnavailable, match=f"no connection to ZooKeeper at {server.url}"):
            client.ask(within=0.3)
        client.within = 0.2
        began = monotonic()
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                client.ask(within=5)
        assert monotonic() - began < 2, "who asks once it is away does not wait for it again"
        server.start()
        wait_until(lambda: client.session, timeout=5, what="it connects without being asked to")
        assert client.ask(within=2) == []
    finally:
        server.stop()


def test_host_that_does_not_resolve_is_no_connection(use_zookeeper: UseZooKeeper) -> None:
    use_zookeeper("no-such-host.invalid")
    with pytest.raises(StoreUnavailable, match="no connection"):
        zookeeper_session.current_client().ask(within=0.5)


def test_closed_session_is_followed_by_another(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper
) -> None:
    use_zookeeper(zookeeper_server.url)
    first = zookeeper_session.current_client()
    first.ask(within=5)
    before = first.session
    zookeeper_session.close()
    assert first.ended
    assert first.session == ""
    second = zookeeper_session.current_client()
    second.ask(within=5)
    assert second.session not in ("", before)


def test_client_that_gave_up_is_replaced(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper
) -> None:
    use_zookeeper(zookeeper_server.url)
    first = zookeeper_session.current_client()
    first.ask(within=5)
    first._kazoo.stop()  # as it ends when a server refuses its credentials
    second = zookeeper_session.current_client()
    assert second is not first
    assert second.ask(within=5) == []


def test_end_of_a_prefork_child_ends_its_session(
    zookeeper_server: ZooKeeperServer, use_zookeeper: UseZooKeeper
) -> None:
    from celery.signals import worker_process_shutdown

    use_zookeeper(zookeeper_server.url)
    client = zookeeper_session.current_client()
    client.ask(within=5)
    worker_process_shutdown.send(sender=None)
    assert client.ended


def test_kazoo_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "kazoo" or name == "django_celery_extensions.stores.zookeeper_leases":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    for use in (zookeeper.lease_store, zookeeper.check):
        with pytest.raises(
            TaskConfigurationError, match=r"pip install django-celery-extensions\[zookeeper\]"
        ):
            use()
