"""What is wrong with a call's arguments and options, told before anything is claimed or sent.

Celery and kombu find it when they send the message: after a claim was made, or at a commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.exceptions import QueueNotFound
from celery.utils.time import maybe_iso8601
from kombu import compression, serialization

from django_celery_extensions.celery_config import configured
from django_celery_extensions.exceptions import InvalidOption

if TYPE_CHECKING:
    from django_celery_extensions.task import DjangoTask


def check_arguments(task: DjangoTask, args: Any, kwargs: Any) -> None:
    """Raise ``TypeError`` for arguments that are no arguments, or that the task does not accept."""
    if not isinstance(args, (list, tuple)):
        msg = f"{task.name}: task args must be a list or tuple, not {args!r}"
        raise TypeError(msg)
    if not isinstance(kwargs, (dict, Mapping)):  # a dict is known sooner
        msg = f"{task.name}: task keyword arguments must be a mapping, not {kwargs!r}"
        raise TypeError(msg)
    task.check_call(args, kwargs)


def check_headers(task: DjangoTask, options: dict[str, Any]) -> None:
    """Make a dictionary of headers that are pairs; raise :class:`InvalidOption` for what can't be headers."""
    headers = options.get("headers")
    if headers is None or isinstance(headers, Mapping):
        return
    try:
        options["headers"] = dict(headers)
    except (TypeError, ValueError) as exc:
        msg = f"{task.name}: headers is {headers!r}; give a mapping"
        raise InvalidOption(msg) from exc


def check_times(task: DjangoTask, options: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidOption` for a time that Celery could make nothing of when it sends the message."""
    kinds: dict[str, tuple[type, ...]] = {
        "countdown": (int, float),
        "eta": (datetime, str),
        "expires": (int, float, datetime, str),
        "connect_timeout": (int, float),
    }
    for name in kinds.keys() & options.keys():
        value = options[name]
        if value is False and name == "countdown":
            continue  # as in "late and 30": there is none
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds[name])):
            wanted = " or ".join(kind.__name__ for kind in kinds[name])
            msg = f"{task.name}: {name} is {value!r}; give {wanted}"
            raise InvalidOption(msg)
        if isinstance(value, (int, float)):
            try:
                task.app.now() + timedelta(seconds=value)
            except (OverflowError, ValueError) as exc:
                msg = f"{task.name}: {name} is {value!r}, which leads to no date: {exc}"
                raise InvalidOption(msg) from exc
        if isinstance(value, str):
            try:
                maybe_iso8601(value)
            except ValueError as exc:
                msg = f"{task.name}: {name} is {value!r}, which is no ISO 8601 time: {exc}"
                raise InvalidOption(msg) from exc


def check_compression(task: DjangoTask, options: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidOption` for a compression that kombu does not know."""
    name = options.get("compression")
    if not name:
        return
    try:
        compression.get_encoder(name)
    except KeyError as exc:
        msg = f"{task.name}: compression is {name!r}; kombu knows {', '.join(sorted(compression.encoders()))}"
        raise InvalidOption(msg) from exc


def check_queue(task: DjangoTask, queue: Any) -> None:
    """Raise ``QueueNotFound`` as Celery will."""
    if not isinstance(queue, str) or not queue:
        return
    app = task.app
    (create,) = configured(app, "task_create_missing_queues")
    if not create:
        try:
            app.amqp.queues[queue]  # knows aliases as well
        except KeyError:
            msg = f"{task.name}: queue {queue!r} is not in task_queues ({', '.join(app.amqp.queues)})"
            raise QueueNotFound(msg) from None


def check_serialisable(task: DjangoTask, args: Any, kwargs: Any, options: Mapping[str, Any]) -> None:
    """Raise kombu's ``EncodeError`` for arguments that the message can't carry."""
    if getattr(task, "_dump_pydantic_arguments", None) is not None:
        return
    serialization.dumps((args, kwargs), serializer_name(task, options))


def serializer_name(task: DjangoTask, options: Mapping[str, Any]) -> str:
    """Return the name of the serialiser of a call's message."""
    name: str | None = options.get("serializer")
    return task.serializer if name is None else name
