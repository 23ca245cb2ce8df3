"""Run Celery and start it again when the code changes: for development.

::

    python -m django_celery_extensions.bin.celeryautoreload -A proj worker -l info
    celeryautoreload -A proj beat

Takes the arguments of ``celery``. Django's reloader watches the modules of the project (with Watchman where
pywatchman is there). Celery gets SIGTERM and :data:`PATIENCE` seconds to finish what it runs, then SIGKILL.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.app.utils import find_app
from django.utils import autoreload

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that a worker may take to finish its tasks before it is killed.
PATIENCE = 10.0
#: Exit code by which Django's reloader asks to be started again.
_CHANGED = 3
#: Exit code of ``celery`` for arguments that it does not understand.
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``celery`` with these arguments (those of the command line) until it ends; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__)  # noqa: T201 - the help of a program
        return 0 if given else _USAGE
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
        return _watch(given)
    return _restart_on_change()


def _restart_on_change() -> int:
    """Run this program again and again as the one that watches, for as long as it asks for it."""
    # Not Django's restart_with_reloader, which kills its child on a signal: Celery would be left behind.
    command = autoreload.get_child_arguments()  # type: ignore[no-untyped-call, unused-ignore]
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    code = _CHANGED
    while code == _CHANGED:
        child = subprocess.Popen(command, env=environment)  # noqa: S603 - what we were started with
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, partial(_pass_on, child))
        code = child.wait()
    return code


def _pass_on(child: subprocess.Popen[bytes], number: int, _: object) -> None:
    child.send_signal(number)


def _watch(arguments: Sequence[str]) -> int:
    celery = _Celery(arguments)
    atexit.register(celery.stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(celery.code))
    reloader = autoreload.get_reloader()
    _say(f"watching the code with {type(reloader).__name__}")
    autoreload.start_django(reloader, celery.run)  # type: ignore[no-untyped-call, unused-ignore]
    return celery.code


class _Celery:
    """The ``celery`` process, run by a thread while the main thread watches."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.code = 0

    def run(self) -> None:
        """Import the project, so that its modules are watched, and run Celery; errors wait for a change."""
        _import_project(self._arguments)
        environment = {k: v for k, v in os.environ.items() if k != autoreload.DJANGO_AUTORELOAD_ENV}
        command = [sys.executable, "-m", "celery", *self._arguments]
        self._process = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own
        self.code = self._process.wait()
        if self._stopped:
            return
        if self.code in (0, _USAGE):
            os.kill(os.getpid(), signal.SIGTERM)  # it has ended on purpose, or never will run
        else:
            _say(f"celery ended with {self.code}; waiting for a change of the code")

    def stop(self) -> None:
        """End Celery, in order if it can be."""
        self._stopped = True
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _say(f"celery did not end within {PATIENCE:g} s and is killed")
            self._process.kill()
            self._process.wait()


def _import_project(arguments: Sequence[str]) -> None:
    name = _app_name(arguments)
    if name is None:
        return
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as celery does
    app: Any = find_app(name)
    app.loader.import_default_modules()


def _app_name(arguments: Sequence[str]) -> str | None:
    for number, argument in enumerate(arguments):
        if argument in ("-A", "--app"):
            return next(iter(arguments[number + 1 :]), None)
        for start in ("--app=", "-A"):
            if argument.startswith(start):
                return argument.removeprefix(start)
    return os.environ.get("CELERY_APP")


_say = partial(print, "celeryautoreload:", file=sys.stderr, flush=True)

if __name__ == "__main__":
    sys.exit(main())
