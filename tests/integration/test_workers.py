"""The test infrastructure itself: workers of every pool start, answer, freeze and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tests.processes import children_of
from tests.servers import MemcachedServer, RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import MakeServer, MakeWorker
    from tests.live import Live
    from tests.workers import Pool, Worker

pytestmark = pytest.mark.integration


def gone(pid: int) -> bool:
    """Tell whether a process has ended, also where nobody has collected it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_worker_of_each_pool_answers_and_dies(pool: Pool, live_app: Live, make_worker: MakeWorker) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    from tests.project.tasks import process_id

    worker = make_worker(pool=pool)
    answered_by = process_id.apply_async().get(timeout=10)
    assert answered_by != os.getpid()
    if pool == "prefork":
        assert answered_by in children_of(worker.pid)
    else:
        assert answered_by == worker.pid

    worker.kill()
    assert not worker.alive
    assert worker.returncode == -signal.SIGKILL
    wait_until(lambda: gone(answered_by), what=f"process {answered_by} is gone")
    process_id.apply_async()
    assert live_app.queued() == 1


def test_a_frozen_worker_goes_on_where_it_was(make_worker: MakeWorker) -> None:
    from tests.project.tasks import add

    worker = make_worker(pool="threads", concurrency=1)
    worker.freeze()
    result = add.apply_async((1, 2))
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.5)
    worker.thaw()
    assert result.get(timeout=10) == 3


def test_a_warm_stop_ends_in_order(make_worker: MakeWorker) -> None:
    worker = make_worker(pool="prefork")
    worker.stop()
    assert worker.returncode == 0


def test_the_app_is_eager_again_after_a_live_test() -> None:
    from tests.project.celery import app
    from tests.project.tasks import process_id

    assert app.conf.broker_url == "memory://"
    assert process_id.apply_async().get() == os.getpid()


def test_redis_counts_and_records_requests(make_server: MakeServer) -> None:
    server = make_server(RedisServer)
    with server.client() as client:
        client.ping()
        with server.counting() as counted, server.recording() as recorded:
            client.eval("redis.call('set', KEYS[1], '1') return redis.call('get', KEYS[1])", 1, 'a "key"')
            client.incr("n")
        assert counted["eval"] == counted["set"] == counted["get"] == counted["incrby"] == 1
        assert [words[0].lower() for words in recorded] == ["eval", "incrby"]


def test_redis_can_be_killed_restarted_and_frozen(make_server: MakeServer) -> None:
    import redis as redis_py

    server = make_server(RedisServer)
    port = server.port
    with server.client(socket_timeout=0.3, retry=None) as client:
        client.set("a", 1)
        server.kill()
        with pytest.raises(redis_py.ConnectionError):
            client.get("a")
        server.restart()
        assert server.port == port
        assert client.get("a") is None
        with server.frozen(), pytest.raises(redis_py.TimeoutError):
            client.get("a")
        assert client.ping()


def test_memcached_keeps_values(make_server: MakeServer) -> None:
    pymemcache = pytest.importorskip("pymemcache")
    server = make_server(MemcachedServer)
    client = pymemcache.Client(server.url)
    client.set("a", "1", noreply=False)
    assert client.get("a") == b"1"
    server.flush()
    assert client.get("a") is None
    client.close()


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "from tests.servers import RedisServer; s = RedisServer().start(); print(s.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    wait_until(lambda: gone(pid), what=f"redis-server {pid} is gone")


@pytest.mark.parametrize("run", [1, 2])
def test_the_shared_worker_serves_one_test_after_the_other(
    run: int, live_app: Live, shared_worker: Worker, long_lived_workers: list[Worker]
) -> None:
    from tests.project.tasks import add

    assert add.apply_async((run, 1)).get(timeout=10) == run + 1
    assert shared_worker.alive
    assert len(long_lived_workers) == 1
    assert live_app.queued() == 0
