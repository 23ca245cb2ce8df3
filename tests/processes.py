"""A child process of the tests: started, frozen, thawed, killed, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

ROOT = Path(__file__).resolve().parent.parent

# Runs between fork and the real program. Asking the kernel here, and not in subprocess' preexec_fn, keeps Python
# from running between fork and exec of a process with threads. The parent may have died before the request.
_TIE_TO_PARENT = """
import ctypes, os, pwd, signal, sys
if sys.argv[2]:  # before the request, which a change of the user would undo
    user = pwd.getpwnam(sys.argv[2])
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def tied_to_us(command: Sequence[str], *, user: str = "") -> list[str]:
    """Return *command* so that the kernel kills it when the thread that started it ends; run by *user*, if given."""
    return [sys.executable, "-I", "-S", "-c", _TIE_TO_PARENT, str(os.getpid()), user, *command]


def children_of(pid: int) -> list[int]:
    """Return the processes that *pid* has started and that are there still."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Process:
    """A command in a process group of its own, with its output in a file.

    Signals go to the whole group, so that the children of a prefork worker share its fate.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, user: str = ""
    ) -> None:
        self.log_path = log
        self._out: IO[bytes] = log.open("ab")
        self._popen = subprocess.Popen(
            tied_to_us(command, user=user),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def log(self) -> str:
        """Return what the process wrote so far."""
        return self.log_path.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send *number* to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def freeze(self) -> None:
        """Stop the group in its tracks, as a long pause of the machine would."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the group: nothing gets the chance to clean up."""
        self.signal(signal.SIGKILL)
        self._popen.wait(10)
        self._out.close()

    def stop(self, timeout: float = 20, *, by: int = SIGTERM) -> None:
        """Send the main process *by* and wait *timeout* seconds for it, then kill what is left of the group."""
        if self.alive:
            self.thaw()
            self._popen.send_signal(by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout)
        self.kill()
