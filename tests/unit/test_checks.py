"""System checks: what is wrong is said when Django starts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.backends.rpc import RPCBackend
from django.core.checks import CheckMessage, Error, Warning, run_checks  # noqa: A004 - Django's name
from django.core.checks.registry import registry
from django.db import connection

from django_celery_extensions import checks, production_checks
from django_celery_extensions.config import NAMES, PREFIX
from django_celery_extensions.config import settings as our_settings
from django_celery_extensions.locks import LockTask, MutexTask
from django_celery_extensions.task import DjangoTask
from tests.project.celery import app
from tests.servers import RedisServer
from tests.settings import redis_cache

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeServer
    from tests.unit.conftest import Declare

LABEL = "django_celery_extensions"


def body(x: Any = None) -> Any:
    return x


def found(*ids: str, deploy: bool = False) -> list[CheckMessage]:
    """Run the checks as `manage.py check` does, and return those of the named ids."""
    messages = run_checks(tags=[LABEL], include_deployment_checks=deploy)
    assert all(str(message.id).startswith(f"{LABEL}.") for message in messages)
    wanted = [f"{LABEL}.{id_}" for id_ in ids]
    return [message for message in messages if message.id in wanted]


def test_all_checks_are_registered() -> None:
    assert LABEL in registry.tags_available()
    registered = {check for check in registry.get_checks() if LABEL in check.tags}
    assert registered == {*checks.CHECKS, *production_checks.CHECKS}
    deployed = {check for check in registry.get_checks(include_deployment_checks=True) if LABEL in check.tags}
    assert deployed - registered == set(production_checks.DEPLOY_CHECKS)


def test_project_of_the_tests_is_in_order() -> None:
    assert run_checks(tags=[LABEL]) == []


# W001


@pytest.mark.parametrize(
    ("wrong", "likely"),
    [
        ("CACHE_NAM", "CACHE_NAME"),
        ("LOCK_TIME_OUT", "LOCK_TIMEOUT"),
        ("DEFAULT_STALE_TIME_LIMIT", "DEFAULT_TASK_STALE_TIME_LIMIT"),
        ("AUTO_GENERATE_TASK_DJANGO_COMMANDS", "AUTO_GENERATE_TASKS_DJANGO_COMMANDS"),
    ],
)
def test_unknown_setting_is_a_warning_with_the_likely_one(
    settings: SettingsWrapper, wrong: str, likely: str
) -> None:
    setattr(settings, PREFIX + wrong, 1)
    (message,) = found("W001")
    assert isinstance(message, Warning)
    assert PREFIX + wrong in message.msg
    assert message.hint == f"Did you mean {PREFIX}{likely}?"


def test_known_settings_are_no_warning(settings: SettingsWrapper) -> None:
    for name in NAMES:
        setattr(settings, PREFIX + name, getattr(our_settings, name))
    assert found("W001") == []


def test_settings_are_those_of_the_contract() -> None:
    contract = """CACHE_NAME UNIQUE_TASK_KEY_PREFIX IGNORE_TASK_KEY_PREFIX BEATER_LOCK_KEY LOCK_STORE LOCK_TIMEOUT
        LOCK_SLEEP DEFAULT_TASK_STALE_TIME_LIMIT DEFAULT_TASK_MAX_QUEUE_WAITING_TIME
        AUTO_GENERATE_TASKS_DJANGO_COMMANDS AUTO_GENERATE_TASKS_DEFAULT_CELERY_KWARGS AUTO_SQS_MESSAGE_GROUP_ID
        CELERY_TASK_CHECKER CELERY_SETTINGS CELERY_AUTODISCOVER"""
    assert set(NAMES) == set(contract.split())


# E002


@pytest.mark.parametrize(
    "name",
    ["LOCK_TIMEOUT", "LOCK_SLEEP", "DEFAULT_TASK_STALE_TIME_LIMIT", "DEFAULT_TASK_MAX_QUEUE_WAITING_TIME"],
)
@pytest.mark.parametrize("value", [0, -1, "15", True, timedelta(), float("nan")])
def test_duration_that_can_not_be_is_an_error(settings: SettingsWrapper, name: str, value: Any) -> None:
    setattr(settings, PREFIX + name, value)
    (message,) = found("E002")
    assert isinstance(message, Error)
    assert f"{PREFIX}{name} is {value!r}" in message.msg


@pytest.mark.parametrize("name", ["LOCK_TIMEOUT", "LOCK_SLEEP"])
@pytest.mark.parametrize("value", [None, [15], b"15"])
def test_length_of_a_lease_must_be_something(settings: SettingsWrapper, name: str, value: Any) -> None:
    setattr(settings, PREFIX + name, value)
    (message,) = found("E002")
    assert name in message.msg


@pytest.mark.parametrize("value", [1, 0.5, timedelta(seconds=5)])
def test_good_durations_are_in_order(settings: SettingsWrapper, value: Any) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_TIMEOUT = value
    settings.DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_MAX_QUEUE_WAITING_TIME = None
    assert found("E002") == []


# E003


@pytest.mark.parametrize("options", [{"unique": True}, {"ignore_task_timedelta": 60}])
@pytest.mark.parametrize(
    ("cache", "says"), [("dummy", "DummyCache"), ("nope", "CACHE_NAME is 'nope', but CACHES has 'default'")]
)
def test_cache_that_can_not_keep_claims_is_an_error(
    declare: Declare, settings: SettingsWrapper, options: dict[str, Any], cache: str, says: str
) -> None:
    declare(body, **options)
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = cache
    (message,) = found("E003")
    assert isinstance(message, Error)
    assert says in message.msg


def test_cache_of_one_process_is_an_error_unless_eager(declare: Declare, settings: SettingsWrapper) -> None:
    declare(body, unique=True)
    assert found("E003") == []
    settings.CELERY_TASK_ALWAYS_EAGER = False
    (message,) = found("E003")
    assert "LocMemCache" in message.msg


def test_cache_does_not_matter_where_no_task_needs_it(settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CACHE_NAME = "dummy"
    guarded = {name: task for name, task in app.tasks.items() if getattr(task, "unique", False)}
    guarded |= {n: task for n, task in app.tasks.items() if getattr(task, "ignore_task_timedelta", None)}
    guarded |= {n: task for n, task in app.tasks.items() if isinstance(task, LockTask)}
    for name in guarded:
        del app.tasks[name]
    try:
        assert found("E003") == []
    finally:
        app.tasks.update(guarded)


# E004


def test_unique_task_without_a_stale_limit_is_an_error_if_the_project_wants_one(
    declare: Declare, settings: SettingsWrapper
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_DEFAULT_TASK_STALE_TIME_LIMIT = None
    declare(body, unique=True)
    declare(body, name="declared.limited", unique=True, stale_time_limit=60)
    declare(body, name="declared.computed", unique=True, time_limit=60, max_queue_waiting_time=60)
    declare(body, name="declared.plain")
    messages = [message for message in found("E004") if "declared." in message.msg]
    assert [message.msg.split(":")[0] for message in messages] == ["declared.body"]
    assert "stale_time_limit" in messages[0].msg
    assert isinstance(messages[0], Error)


# E005


@pytest.mark.parametrize(
    ("name", "hint"), [("clearsession", "Did you mean 'clearsessions'?"), ("xyzzy", None)]
)
def test_unknown_command_is_an_error_with_the_likely_one(
    settings: SettingsWrapper, name: str, hint: str | None
) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS = {name: {}, "check": {}}
    (message,) = found("E005")
    assert isinstance(message, Error)
    assert repr(name) in message.msg
    assert message.hint == hint


# W006 and the project's own


def test_option_that_nobody_knows_is_a_warning(declare: Declare) -> None:
    declare(body, colour=3, unique=True, rate_limit="1/s", retry_backoff=True)
    (message,) = found("W006")
    assert isinstance(message, Warning)
    assert "declared.body" in message.msg
    assert "'colour'" in message.msg


def test_option_that_a_base_class_declares_is_none(declare: Declare) -> None:
    base = type("Base", (DjangoTask,), {"abstract": True, "colour": None, "__annotations__": {"size": int}})
    declare(body, base=base, colour=3, size=4)
    assert found("W006") == []


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        (
            {"unique_keys": ("x",), "unique_on_conflict": "raise", "stale_time_limit": 5},
            "stale_time_limit, unique_keys, uniq",
        ),
        (
            {"unique_until": "start", "unique_keys": ("x",), "ignore_task_timedelta": 60},
            "unique_until of a task",
        ),
        ({"unique_keys": ("x",), "ignore_task_timedelta": 60}, None),
        ({"unique_keys": ("x",), "unique": True}, None),
        ({}, None),
    ],
)
def test_forgotten_unique_is_a_warning(declare: Declare, options: dict[str, Any], idle: str | None) -> None:
    declare(body, **options)
    messages = [message.msg for message in found("W028") if "declared.body" in message.msg]
    assert len(messages) == (idle is not None)
    assert idle is None or idle in messages[0]


def test_base_class_may_say_what_its_unique_tasks_do(declare: Declare) -> None:
    base = type("Base", (DjangoTask,), {"abstract": True, "unique_on_conflict": "skip"})
    declare(body, base=base)
    assert found("W028") == []


def look(name: str, task: Any) -> CheckMessage | None:
    assert app.tasks[name] is task
    return Error(f"{name} looks odd", id=f"{LABEL}.E900") if name == "declared.body" else None


def test_projects_own_check_is_asked_about_each_task(declare: Declare, settings: SettingsWrapper) -> None:
    declare(body)
    settings.DJANGO_CELERY_EXTENSIONS_CELERY_TASK_CHECKER = "tests.unit.test_checks.look"
    assert [message.msg for message in found("E900")] == ["declared.body looks odd"]


def test_projects_own_check_that_is_not_there_is_an_error(settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_CELERY_TASK_CHECKER = "tests.unit.nothing.here"
    (message,) = run_checks(tags=[LABEL])
    assert "CELERY_TASK_CHECKER" in message.msg


# E007


@pytest.mark.parametrize("value", ["redis", "", None, "Zookeeper"])
def test_unknown_lock_store_is_an_error(settings: SettingsWrapper, value: Any) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = value
    (message,) = found("E007")
    assert "'cache' or 'zookeeper'" in message.msg


# W009


@pytest.mark.parametrize(
    ("options", "warns"), [({}, True), ({"retry_attempts": 0, "dead_timeout": 0}, False)]
)
def test_memcached_that_hides_an_outage_is_a_warning(
    settings: SettingsWrapper, options: dict[str, Any], warns: bool
) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": "127.0.0.1:1",
            "OPTIONS": options,
        }
    }
    assert bool(found("W009")) is warns


# W026, W027

IN_A_TABLE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "claims"}


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "keeps 300 entries"), ({"MAX_ENTRIES": 9999}, "keeps 9999"), ({"MAX_ENTRIES": 1_000_000}, None)],
)
def test_database_cache_of_few_entries_is_a_warning(
    settings: SettingsWrapper, options: dict[str, Any], told: str | None
) -> None:
    settings.CACHES = {"default": {**IN_A_TABLE, "OPTIONS": options}}
    messages = found("W026")
    assert len(messages) == (0 if told is None else 1)
    for message in messages:
        assert told in message.msg


@pytest.mark.parametrize("atomic", [True, False])
def test_sqlite_cache_within_the_transactions_of_views_is_a_warning(
    settings: SettingsWrapper, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    settings.CACHES = {"default": IN_A_TABLE}
    assert [message.msg[:60] for message in found("W027")] == (
        ["The cache 'default' is kept in the SQLite database 'default'"] if atomic else []
    )


# E003 and E010 of locks


@pytest.mark.parametrize("base", [LockTask, MutexTask])
def test_lock_task_needs_a_shared_cache(settings: SettingsWrapper, declare: Declare, base: type) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = False
    declare(body, base=base)
    (message,) = found("E003")
    assert "LocMemCache" in message.msg


def test_lock_task_on_zookeeper_needs_no_cache(settings: SettingsWrapper) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = "zookeeper"
    assert found("E010") == []


@pytest.mark.parametrize("hosts", ["", "a:b", "zk1:2181,,zk2:2181", 2181, "::1:2181"])
def test_bad_zookeeper_hosts_are_told_without_connecting(settings: SettingsWrapper, hosts: Any) -> None:
    settings.DJANGO_CELERY_EXTENSIONS_LOCK_STORE = "zookeeper"
    app.conf.zookeeper_hosts = hosts
    (message,) = found("E010")
    assert repr(hosts) in message.msg


# W020 to I025: production


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"default_retry_delays": (60, 7200)}, "a retry delay is 7200 s"),
        ({"time_limit": 4000, "acks_late": True}, "its time_limit is 4000 s"),
        ({"soft_time_limit": 3600, "acks_late": True}, "its soft_time_limit is 3600 s"),
    ],
)
def test_message_that_comes_back_too_early(
    settings: SettingsWrapper, declare: Declare, options: dict[str, Any], said: str
) -> None:
    settings.CELERY_BROKER_URL = "redis://localhost/0"
    declare(body, **options)
    (message,) = found("W020")
    assert said in message.msg
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 10_000}
    assert found("W020") == []
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {}
    settings.CELERY_BROKER_URL = "amqp://localhost//"
    assert found("W020") == []


def test_early_acknowledged_task_may_run_long(settings: SettingsWrapper, declare: Declare) -> None:
    settings.CELERY_BROKER_URL = "redis://localhost/0"
    declare(body, time_limit=40_000, default_retry_delays=(60,))
    assert found("W020") == []


def test_claim_that_goes_stale_before_the_time_is_over(declare: Declare) -> None:
    declare(body, unique=True, stale_time_limit=60, time_limit=300)
    (message,) = found("W021")
    assert "stale after 60 s, but it may run for 300 s" in message.msg
    declare(body, name="declared.fine", unique=True, stale_time_limit=600, time_limit=300)
    assert len(found("W021")) == 1


def test_duplicate_without_a_result_is_told_with_deploy_only(declare: Declare) -> None:
    declare(body, unique=True, ignore_result=True)
    assert found("I022") == []
    messages = [message.msg for message in found("I022", deploy=True)]
    assert any(message.startswith("declared.body is unique and stores no result") for message in messages)


def test_result_backend_of_which_others_get_nothing_is_told_with_deploy_only(declare: Declare) -> None:
    declare(body, unique=True, backend=RPCBackend(app))
    messages = [message.msg for message in found("I022", deploy=True)]
    assert any(
        message.startswith("declared.body is unique, and the result backend rpc://") for message in messages
    )


def test_evicting_redis_is_told_with_deploy_only(settings: SettingsWrapper, make_server: MakeServer) -> None:
    server = make_server(RedisServer, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    settings.CACHES = {"default": redis_cache(server.database(1))}
    settings.CELERY_RESULT_BACKEND = server.database(2)
    assert found("W023", "W024") == []
    (message,) = found("W023", "W024", deploy=True)
    assert "maxmemory-policy allkeys-lru" in message.msg
    settings.CELERY_RESULT_BACKEND = server.database(1)
    assert [message.id for message in found("W023", "W024", deploy=True)] == [
        f"{LABEL}.W023",
        f"{LABEL}.W024",
    ]
    server.kill()
    (message,) = found("W023", "W024", "I025", deploy=True)
    assert "could not be asked" in message.msg


def test_redis_that_keeps_what_it_was_given(settings: SettingsWrapper, store_server: RedisServer) -> None:
    settings.CACHES = {"default": redis_cache(store_server.url)}
    assert found("W023", "W024", "I025", deploy=True) == []
