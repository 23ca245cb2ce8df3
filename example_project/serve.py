"""``python -m example_project.serve``: leave site, worker and beat running until Ctrl-C."""

import os
import socket
import sys
import time
from pathlib import Path

from example_project.processes import ROOT, ProcessError, Processes
from example_project.redis_server import free_port
from example_project.stack import start_stack

DEFAULT_PORT = 8000
LOOK_SECONDS = 0.2


def say(text: str) -> None:
    """Tell what goes on, in the column of the children's output."""
    for line in text.splitlines():
        print(f"{'serve':>6} | {line}", flush=True)


def choose_port() -> int:
    """Give the port that the environment names, or a free one if somebody has it."""
    wanted = int(os.environ.get("PORT") or DEFAULT_PORT)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            port = free_port()
            say(f"port {wanted} is taken, using {port}")
            return port
    return wanted


def main() -> int:
    """Run the shop until a signal comes or one of its processes ends."""
    data = Path(os.environ.get("SHOP_DATA") or ROOT / ".demo")
    namespace = os.environ.get("SHOP_NAMESPACE") or "shop"
    try:
        with Processes(echo=True) as processes:
            stack = start_stack(processes, data, namespace, choose_port(), say, beat=True)
            say(f"open {stack.url} (Ctrl-C ends everything)")
            while processes.dead() is None:
                time.sleep(LOOK_SECONDS)
            processes.check()
    except ProcessError as exc:
        say(f"{str(exc).rstrip()}\neverything was stopped")
        return 1
    except SystemExit:
        say("everything was stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
