"""Management commands as tasks.

Each command named in the setting ``AUTO_GENERATE_TASKS_DJANGO_COMMANDS`` gets a task
``command.<app>.<command>``. It takes the command's positional arguments as ``command_args`` and its options
by name; what the command writes goes to the task's logger, line by line.
"""

from __future__ import annotations

import io
import logging
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import current_app, shared_task
from celery.utils.log import get_task_logger
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.utils.module_loading import import_string

from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import CommandTaskError, TaskConfigurationError
from django_celery_extensions.task import DjangoTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from django.core.management.base import BaseCommand

_SETTING = "DJANGO_CELERY_EXTENSIONS_AUTO_GENERATE_TASKS_DJANGO_COMMANDS"


class CommandTask(DjangoTask):
    """A task whose body is a management command."""

    abstract = True
    #: Name of the command.
    command_name: str = ""

    def check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise :class:`CommandTaskError` for arguments that the command's parser does not take."""
        super().check_call(args, kwargs)
        command_args, options = _split(*args, **kwargs)
        check_command_call(self.command_name, command_args, options)


def command_task_name(command_name: str) -> str:
    """Return the name of a command's task; raises :class:`CommandTaskError` for an unknown command."""
    return f"command.{_app_of(command_name)}.{command_name}"


def command_task(command_name: str) -> DjangoTask:
    """Return a command's task; raises :class:`CommandTaskError` where there is none."""
    name = command_task_name(command_name)
    task = current_app.tasks.get(name)
    if task is None:
        msg = (
            f"no task is made of the management command {command_name!r}; add it to {_SETTING}, which has "
            f"{', '.join(map(repr, settings.AUTO_GENERATE_TASKS_DJANGO_COMMANDS)) or 'none'}"
        )
        raise CommandTaskError(msg)
    if not isinstance(task, DjangoTask):
        msg = f"the task {name} is a {type(task).__mro__[1].__qualname__}, not a DjangoTask"
        raise TaskConfigurationError(msg)
    return task


def make_command_tasks() -> None:
    """Make the tasks that the setting names; unknown commands are left to the system check."""
    for command_name, options in settings.AUTO_GENERATE_TASKS_DJANGO_COMMANDS.items():
        if command_name in get_commands():
            _make_command_task(command_name, options or {})


def _make_command_task(command_name: str, options: Mapping[str, Any]) -> None:
    options = {
        "ignore_result": True,
        "base": CommandTask,
        **(settings.AUTO_GENERATE_TASKS_DEFAULT_CELERY_KWARGS or {}),
        **options,
    }
    for name in ("autoretry_for", "dont_autoretry_for"):
        if name in options:
            options[name] = tuple(import_string(e) if isinstance(e, str) else e for e in options[name])
    if not issubclass(options["base"], CommandTask):
        options["base"] = type("CommandTask", (CommandTask, options["base"]), {"abstract": True})

    def command(self: DjangoTask, command_args: Sequence[Any] | None = None, **kwargs: Any) -> None:
        run_command(self, command_name, command_args or (), kwargs)

    command.__name__ = command.__qualname__ = command_name
    command.__doc__ = f"Run the management command ``{command_name}``."
    make_task: Any = shared_task(
        bind=True, name=command_task_name(command_name), command_name=command_name, **options
    )
    make_task(command)


def run_command(task: DjangoTask, command_name: str, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Run a command, its output to the logger of its task.

    A ``CommandError`` is a failure of the task, and so is an exit with another code than 0.
    """
    logger = get_task_logger(str(task.name))
    out, err = LogStream(logger, logging.INFO), LogStream(logger, logging.ERROR)
    try:
        call_command(
            command_name,
            *map(str, args),
            **{"stdout": out, "stderr": err, "no_color": True, **task.get_command_kwargs(), **options},
        )
    except SystemExit as exc:
        if exc.code not in (None, 0):
            msg = f"the command {command_name} exited with {exc.code!r}"
            raise CommandError(msg) from exc
    finally:
        out.close()
        err.close()


class LogStream(io.TextIOBase):
    """A stream that logs each line written to it."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._log = partial(logger.log, level)
        self._rest = ""

    def writable(self) -> bool:
        """See ``io.TextIOBase``."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that ``text`` ends; keep the rest for the next write."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log("%s", line)
        return len(text)

    def close(self) -> None:
        """Log what is left."""
        if self._rest:
            self._log("%s", self._rest)
            self._rest = ""
        super().close()


def check_command_call(command_name: str, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Check arguments against the command's parser, as ``call_command`` will.

    Raises :class:`CommandTaskError`.
    """
    command = _load(command_name)
    parser: Any = command.create_parser("", command_name)
    actions: Sequence[Any] = parser._actions  # noqa: SLF001 - argparse has no public way, Django's call_command does the same
    known = {action.dest for action in actions} | {*command.base_stealth_options, *command.stealth_options}
    known |= {option.lstrip("-").replace("-", "_") for action in actions for option in action.option_strings}
    unknown = sorted(set(options) - known)
    if unknown:
        likely = get_close_matches(unknown[0], known, n=1)
        msg = f"the command {command_name} has no option {unknown[0]!r}" + (
            f"; did you mean {likely[0]!r}?" if likely else f"; it has {', '.join(sorted(known))}"
        )
        raise CommandTaskError(msg)
    required = [action for action in actions if action.required and action.dest not in options]
    if any(action.option_strings for action in required):
        msg = f"the command {command_name} needs the option {required[0].dest!r}"
        raise CommandTaskError(msg)
    if any(action.required and action.dest in options for action in actions):
        return  # given by name: call_command tells the parser, and only it knows how
    try:
        parser.parse_args([*map(str, args)])
    except (CommandError, SystemExit, TypeError) as exc:
        msg = f"the command {command_name} does not take the arguments {list(args)!r}: {exc}"
        raise CommandTaskError(msg) from exc


def unknown_commands(names: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """Yield each name that is no command's, with the nearest one that is."""
    commands = get_commands()
    for name in names:
        if name not in commands:
            yield name, next(iter(get_close_matches(name, commands, n=1)), None)


def _split(
    command_args: Sequence[Any] | None = None, **options: Any
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return command_args or (), options


def _app_of(command_name: str) -> str:
    try:
        app = get_commands()[command_name]
    except KeyError:
        _, likely = next(iter(unknown_commands([command_name])))
        msg = f"there is no management command {command_name!r}" + (
            f"; did you mean {likely!r}?" if likely else ""
        )
        raise CommandTaskError(msg) from None
    return str(app)


def _load(command_name: str) -> BaseCommand:
    return load_command_class(get_commands()[command_name], command_name)
