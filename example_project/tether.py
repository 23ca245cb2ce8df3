"""Becomes another program that dies when its parent does: ``python tether.py PARENT COMMAND...``.

Run by its path, before anything of the project is imported. Linux only: elsewhere a parent that is killed by
SIGKILL leaves its children behind, while every other way to end stops them (``Processes``).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the tie was made
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
