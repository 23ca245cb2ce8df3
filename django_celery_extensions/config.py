"""The settings, each a typed attribute that is read when it is used.

A project sets them with the prefix ``DJANGO_CELERY_EXTENSIONS_``; ``override_settings`` works.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from django.conf import settings as django_settings
from django.utils.functional import empty
from django.utils.module_loading import import_string

from django_celery_extensions.exceptions import TaskConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "DJANGO_CELERY_EXTENSIONS_"

T = TypeVar("T")


class Unset:
    """The type of :data:`UNSET`: the project says nothing, which is not the same as ``None``."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


class Setting(Generic[T]):
    """One setting: its default, and its value at the moment of reading."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = PREFIX + name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        try:
            # Several of them are read in every call and every lock. Django's own way to one that the project does not
            # set takes eight times as long.
            wrapped = object.__getattribute__(django_settings, "_wrapped")
        except AttributeError:  # a library that puts something else in its place
            wrapped = empty
        value: T = getattr(django_settings if wrapped is empty else wrapped, self.name, self.default)
        return value


class Settings:
    """All settings of the library; use the instance :data:`settings`."""

    #: Alias (in ``CACHES``) of the cache that keeps claims, ignore windows and locks.
    CACHE_NAME = Setting("default")
    #: First part of the key of a claim.
    UNIQUE_TASK_KEY_PREFIX = Setting("dce:unique")
    #: First part of the key of an ignore window.
    IGNORE_TASK_KEY_PREFIX = Setting("dce:ignore")
    #: Key under which the leader of beat holds its lease.
    BEATER_LOCK_KEY = Setting("dce:beat")
    #: Where locks live: ``"cache"`` or ``"zookeeper"``.
    LOCK_STORE = Setting("cache")
    #: Seconds a lease lasts: a lock, the leadership of beat, the claim of a running task.
    LOCK_TIMEOUT = Setting[float](15)
    #: Seconds between two looks of a standby.
    LOCK_SLEEP = Setting[float](2)
    #: Seconds a claim may last where neither the call nor the task says. Unset: computed, else one day.
    DEFAULT_TASK_STALE_TIME_LIMIT = Setting[float | Unset | None](UNSET)
    #: Seconds a message may wait in its queue, where the task does not say.
    DEFAULT_TASK_MAX_QUEUE_WAITING_TIME = Setting[float | None](None)
    #: Management commands to make tasks of: name of the command -> task options.
    AUTO_GENERATE_TASKS_DJANGO_COMMANDS = Setting[Mapping[str, Mapping[str, Any] | None]]({})
    #: Task options of all those tasks.
    AUTO_GENERATE_TASKS_DEFAULT_CELERY_KWARGS = Setting[Mapping[str, Any] | None](None)
    #: Give every message an SQS ``MessageGroupId`` (its task id) and ``MessageDeduplicationId`` where the call gives none.
    AUTO_SQS_MESSAGE_GROUP_ID = Setting(False)
    #: Dotted path of ``f(task_name, task)``, called for each task by the system check; returns a
    #: ``CheckMessage`` or None.
    CELERY_TASK_CHECKER = Setting[str | None](None)
    #: Dotted path of the project's Celery app, imported when Django starts.
    CELERY_SETTINGS = Setting[str | None](None)
    #: Let that app find the tasks modules of the installed apps when Django starts.
    CELERY_AUTODISCOVER = Setting(False)


settings: Settings = Settings()

#: The names of all settings, without the prefix.
NAMES = tuple(name for name, value in vars(Settings).items() if isinstance(value, Setting))


def imported(name: str) -> Any:
    """Return what the setting of this name (without the prefix) has the dotted path of; None where it is None.

    Raises :class:`TaskConfigurationError` for what can't be imported.
    """
    path = getattr(settings, name)
    try:
        return None if path is None else import_string(path)
    except (ImportError, AttributeError) as exc:  # the second of what is no text
        msg = f"{PREFIX}{name} is {path!r}, which can't be imported: {exc}"
        raise TaskConfigurationError(msg) from exc


def unknown_settings() -> Iterator[tuple[str, str | None]]:
    """Yield each name under the prefix that is no setting of ours, with the nearest known name."""
    known = [PREFIX + name for name in NAMES]
    for name in dir(django_settings):
        if name.startswith(PREFIX) and name not in known:
            yield name, next(iter(get_close_matches(name, known, n=1)), None)
