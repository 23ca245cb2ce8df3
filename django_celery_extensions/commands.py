"""Management commands as tasks.

Each command named in the setting ``AUTO_GENERATE_TASKS_DJANGO_COMMANDS`` gets a task
``command.<app>.<command>``. It takes the command's positional arguments as ``command_args`` and its options
by name; what the command writes goes to the task's logger, line by line.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
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
    from collections.abc import Iterable, Sequence


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
        check_command_call(self.command_name, command_args, {**self.get_command_kwargs(), **options})


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
    wanted: Any = settings.AUTO_GENERATE_TASKS_DJANGO_COMMANDS
    if not isinstance(wanted, Mapping):
        msg = f"{_SETTING} is {wanted!r}; give a dict: the options of the task by the name of the command"
        raise TaskConfigurationError(msg)
    for command_name, options in wanted.items():
        if options is not None and not isinstance(options, Mapping):
            msg = f"{_SETTING}[{command_name!r}] is {options!r}; give a dict of the task's options"
            raise TaskConfigurationError(msg)
        if command_name in get_commands():
            _make_command_task(command_name, options or {})


def _errors(what: str, given: Any) -> tuple[type[Exception], ...]:
    """Return exceptions that may be given by their dotted paths."""
    if not isinstance(given, (list, tuple)):
        msg = f"{what} is {given!r}; give a list of exceptions, or of their dotted paths"
        raise TaskConfigurationError(msg)
    try:
        return tuple(import_string(each) if isinstance(each, str) else each for each in given)
    except ImportError as exc:
        msg = f"{what} is {given!r}, and not all of it can be imported: {exc}"
        raise TaskConfigurationError(msg) from exc


def _make_command_task(command_name: str, options: Mapping[str, Any]) -> None:
    options = {
        "ignore_result": True,
        "base": CommandTask,
        **(settings.AUTO_GENERATE_TASKS_DEFAULT_CELERY_KWARGS or {}),
        **options,
    }
    for name in ("autoretry_for", "dont_autoretry_for"):
        if name in options:
            options[name] = _errors(f"the option {name} of the command {command_name}", options[name])
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
    """Check arguments as ``call_command`` does, without running the command.

    Raises :class:`CommandTaskError`.
    """
    command: Any = load_command_class(get_commands()[command_name], command_name)
    actions: Sequence[Any] = command.create_parser("", command_name)._actions  # noqa: SLF001 - as call_command does
    known = {*command.base_stealth_options, *command.stealth_options, *(action.dest for action in actions)}
    known |= {flag.lstrip("-").replace("-", "_") for action in actions for flag in action.option_strings}
    for name in sorted(options.keys() - known):
        likely = get_close_matches(name, known, n=1)
        hint = f"did you mean {likely[0]!r}?" if likely else f"it has {', '.join(sorted(known))}"
        msg = f"the command {command_name} has no option {name!r}; {hint}"
        raise CommandTaskError(msg)
    command.execute = _accept
    try:
        call_command(command, *map(str, args), **options)
    except (CommandError, TypeError, ValueError, SystemExit) as exc:
        msg = f"the command {command_name} can't be called like this: {exc}"
        raise CommandTaskError(msg) from exc


def _accept(*_: object, **__: object) -> None:
    """Stand in for a command's ``execute`` where only its arguments are looked at."""


def unknown_commands(names: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """Yield each name that is no command's, with the nearest one that is."""
    commands = get_commands()
    for name in names:
        if name not in commands:
            yield name, next(iter(get_close_matches(name, commands, n=1)), None)


def _split(
    command_args: Sequence[Any] | None = None, **options: Any
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if command_args is not None and not isinstance(command_args, (list, tuple)):
        msg = f"command_args is {command_args!r}; give a list or tuple of arguments"
        raise CommandTaskError(msg)
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
