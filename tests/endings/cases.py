"""The endings, each a function that plays it and returns after how many ms the claim was settled."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.endings import tasks
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.endings.stage import Stage

#: Seconds of the time limits here. Celery's own timers are as fine as this.
LIMIT = 1.0


def in_body(how: str) -> Callable[[Stage], float]:
    return lambda stage: stage.play(how)


def system_exit(stage: Stage) -> float:
    """On solo, the body's SystemExit ends the worker too: that is Celery's doing."""
    settled = stage.play("exit")
    if stage.worker.pool == "solo":
        wait_until(lambda: not stage.worker.alive, what="the worker has ended")
    return settled


def bad_hook(stage: Stage) -> float:
    return stage.play("hook", tasks.bad_hook)


def bad_start(stage: Stage) -> float:
    return stage.play("start", tasks.bad_start)


def requeued(stage: Stage) -> float:
    """Kept while the message goes round, settled when it has run."""
    return stage.play("reject, requeue", tasks.ending_late)


def retry_waits(stage: Stage) -> float:
    """Kept, for the same task, while the retry waits."""
    result = stage.send("retry")
    stage.go()
    stage.started()
    wait_until(lambda: stage.holder is not None and stage.holder.token == "", what="the retry is queued")
    assert stage.holder is not None
    assert stage.holder.task_id == result.id
    stage.go()
    return stage.settled()


def time_limit(kind: str) -> Callable[[Stage], float]:
    def play(stage: Stage) -> float:
        stage.send("hang", **{kind: LIMIT})
        stage.started()
        stage.go()
        received = (
            stage.received()
        )  # the limit counts from a moment later, the body's start from one later still
        assert received is not None
        return stage.settled(received + LIMIT)

    return play


def terminated(stage: Stage) -> float:
    result = stage.send("hang")
    stage.started()
    moment = time.time()
    result.revoke(terminate=True)
    return stage.settled(moment)


def revoked_unreceived(stage: Stage) -> float:
    """Takes effect when a worker takes the message."""
    result = stage.send("success", queue=stage.parked)
    result.revoke()
    stage.worker.wait_for_log(f"Tasks flagged as revoked: {result.id}")
    assert stage.holder is not None
    stage.consume_parked()
    return stage.settled(stage.received)


def revoked_received(stage: Stage) -> float:
    """Takes effect when the message comes out of the worker's timer."""
    moment = time.time() + LIMIT
    result = stage.send("success", countdown=LIMIT)
    stage.worker.wait_for_log(f"[{result.id}] received")
    result.revoke()
    return stage.settled(moment)


def expired_unreceived(stage: Stage) -> float:
    stage.send("success", queue=stage.parked, expires=0.1)
    expires = time.time() + 0.1
    wait_until(lambda: time.time() > expires, what="the message is too old")
    stage.consume_parked()
    return stage.settled(stage.received)


def expired_received(stage: Stage) -> float:
    """The message has expired when it comes out of the worker's timer."""
    moment = time.time() + LIMIT
    stage.send("success", countdown=LIMIT, expires=LIMIT / 2)
    return stage.settled(moment)


def warm_shutdown(stage: Stage) -> float:
    """The worker lets its task finish."""
    result = stage.send("success")
    stage.started()
    stage.signal(signal.SIGTERM)
    stage.worker.wait_for_log("Warm shutdown")
    assert stage.holder is not None
    assert stage.holder.task_id == result.id
    stage.go()
    return stage.settled()


def cold_shutdown(*signals: int) -> Callable[[Stage], float]:
    """The worker drops its task."""

    def play(stage: Stage) -> float:
        stage.send("hang")
        stage.started()
        for number in signals[:-1]:
            stage.signal(number)
            stage.worker.wait_for_log("Warm shutdown")
        moment = time.time()
        stage.signal(signals[-1])
        return stage.settled(moment)

    return play


def cold_shutdown_late(stage: Stage) -> float:
    """The message goes back to its queue, and the claim with it: it is kept until another worker has run it.

    On gevent Celery takes the killed greenlet for a success and acknowledges the message, whatever the class of the
    task: nothing comes back, and the lease ends the claim.
    """
    result = stage.send("reject, requeue", tasks.ending_late)
    stage.started()
    assert stage.has_message()
    moment = time.time()
    stage.signal(signal.SIGQUIT)
    wait_until(lambda: not stage.worker.alive, 30, what="the worker has ended")
    if stage.worker.pool == "gevent":
        assert not stage.has_message(), "Celery keeps the message now: it has to be run, under its claim"
        return stage.settled(moment)
    assert stage.holder is not None, "the claim ended with the worker"
    assert stage.holder.task_id == result.id
    stage.go()
    stage.next_worker()
    return stage.settled()


def sigkill_of_worker(stage: Stage) -> float:
    """Nobody is left to settle: the lease ends."""
    stage.send("hang")
    stage.started()
    moment = time.time()
    stage.worker.kill()
    return stage.settled(moment)


#: Cases that leave the worker alive.
CASES: dict[str, Callable[[Stage], float]] = {
    "success": in_body("success"),
    "failure": in_body("failure"),
    "Ignore": in_body("ignore"),
    "Reject": in_body("reject"),
    "Reject, requeue (acks_late), then success": requeued,
    "Reject, requeue, message acknowledged early": in_body("reject, requeue, acked"),
    "retry, then success": retry_waits,
    "retries exhausted": in_body("retry exhausted"),
    "retry can't be published": in_body("retry unpublished"),
    "Task.replace": in_body("replace"),
    "on_task_start raises": bad_hook,
    "before_start raises": bad_start,
    "SystemExit": system_exit,
    "child killed (worker lost)": in_body("kill"),
    "soft time limit": time_limit("soft_time_limit"),
    "hard time limit": time_limit("time_limit"),
    "revoke(terminate=True)": terminated,
    "revoked before it was received": revoked_unreceived,
    "revoked while it waits for its ETA": revoked_received,
    "expired before it was received": expired_unreceived,
    "expired while it waits for its ETA": expired_received,
}

#: Cases that end the worker.
LAST_CASES: dict[str, Callable[[Stage], float]] = {
    "warm shutdown (SIGTERM)": warm_shutdown,
    "cold shutdown (SIGQUIT)": cold_shutdown(signal.SIGQUIT),
    "warm, then cold shutdown (SIGTERM, SIGQUIT)": cold_shutdown(signal.SIGTERM, signal.SIGQUIT),
    "cold shutdown, acks_late": cold_shutdown_late,
    "worker killed (SIGKILL)": sigkill_of_worker,
}

_NO_LIMITS = "the pool has no time limits"
_NO_TERMINATE = "the pool can't stop a task"
_ONE_PROCESS = "the worker itself is the process: see worker killed"
_RUNS_ON = "a thread can't be stopped: the body runs on, and holds its key"
_FAILS = "Celery's handler raises NotImplementedError in the body: the task has failed, nothing comes back"
_BLOCKED = "its one thread is in the body"

#: Why a pool does not have an ending.
MISSING: dict[str, dict[str, str]] = {
    "prefork": {},
    "threads": {
        "child killed (worker lost)": _ONE_PROCESS,
        "soft time limit": _NO_LIMITS,
        "hard time limit": _NO_LIMITS,
        "revoke(terminate=True)": _NO_TERMINATE,
        "cold shutdown (SIGQUIT)": _RUNS_ON,
        "warm, then cold shutdown (SIGTERM, SIGQUIT)": _RUNS_ON,
        "cold shutdown, acks_late": _RUNS_ON,
    },
    "solo": {
        "child killed (worker lost)": _ONE_PROCESS,
        "soft time limit": _NO_LIMITS,
        "hard time limit": _NO_LIMITS,
        "revoke(terminate=True)": _BLOCKED,
        "cold shutdown, acks_late": _FAILS,
    },
    "gevent": {
        "child killed (worker lost)": _ONE_PROCESS,
        "soft time limit": "the pool has no soft time limit",
    },
}
