"""The shorter way to read Celery's configuration says what the configuration says."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from celery import Celery
from celery.app.utils import Settings
from django.conf import LazySettings
from django.test import override_settings

from django_celery_extensions.celery_config import configured

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "task_always_eager",
    "task_default_queue",
    "task_create_missing_queues",
    "task_publish_retry_policy",
    "task_routes",
)


def of_django(**values: Any) -> Celery:
    """An app whose namespace in Django's settings says this."""
    lazy, module = LazySettings(), ModuleType("settings_of_a_test")
    vars(module).update(SECRET_KEY="x", **{f"CELERY_{name.upper()}": value for name, value in values.items()})
    with (
        mock.patch.dict("sys.modules", {module.__name__: module}),
        mock.patch.dict("os.environ", DJANGO_SETTINGS_MODULE=module.__name__),
    ):
        _ = lazy.SECRET_KEY
    app = Celery("test", set_as_current=False)
    app.config_from_object(lazy, namespace="CELERY")
    return app


def of_old_names(**values: Any) -> Celery:
    app = Celery("test", set_as_current=False)
    app.config_from_object(
        {f"CELERY_{name.removeprefix('task_').upper()}": value for name, value in values.items()}
    )
    return app


def of_a_dict(**values: Any) -> Celery:
    app = Celery("test", set_as_current=False)
    app.config_from_object(dict(values))
    return app


def of_an_object(**values: Any) -> Celery:
    app = Celery("test", set_as_current=False)
    app.config_from_object(type("Config", (), values))
    return app


def of_updates(**values: Any) -> Celery:
    app = Celery("test", set_as_current=False)
    app.conf.update(values)
    return app


def of_itself(**values: Any) -> Celery:
    return Celery("test", changes=values, set_as_current=False)


MAKERS = [of_django, of_old_names, of_a_dict, of_an_object, of_updates, of_itself]
each_way = pytest.mark.parametrize("make", MAKERS, ids=[make.__name__ for make in MAKERS])


@each_way
@pytest.mark.parametrize("values", [{}, {"task_always_eager": True, "task_routes": {"a": "b"}}], ids=str)
def test_it_is_what_the_configuration_says(make: Callable[..., Celery], values: dict[str, Any]) -> None:
    app = make(**values)
    assert configured(app, *NAMES) == [app.conf[name] for name in NAMES]
    assert configured(app, "task_always_eager")[0] is bool(values)


@each_way
def test_what_changes_is_seen(make: Callable[..., Celery]) -> None:
    app = make(task_default_queue="first")
    assert configured(app, "task_default_queue") == ["first"]
    app.conf.task_always_eager = True
    assert configured(app, "task_always_eager")[0] is app.conf.task_always_eager is True
    app.conf.task_always_eager = False
    assert configured(app, "task_always_eager")[0] is False


def test_change_of_djangos_settings_is_seen() -> None:
    app = Celery("test", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    assert configured(app, "task_default_queue") == ["celery"]
    with override_settings(CELERY_TASK_DEFAULT_QUEUE="other"):
        assert configured(app, "task_default_queue") == ["other"]
    assert configured(app, "task_default_queue") == ["celery"]


def test_setting_that_there_is_not_is_an_error() -> None:
    app = of_django()
    with pytest.raises(KeyError):
        configured(app, "no_such_setting")


def test_the_short_way_is_taken() -> None:
    app = of_django(task_default_queue="first")
    assert app.conf.task_default_queue == "first"
    with mock.patch.object(Settings, "__getitem__", side_effect=AssertionError("the long way")):
        assert "first" in configured(app, *NAMES)
        assert configured(app, "task_default_queue") == ["first"]
