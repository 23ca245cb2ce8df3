"""One delivery of one message: what it was sent with, what it holds, and how that is given back."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore, Reject, Retry

from django_celery_extensions import sqs
from django_celery_extensions.claims import Claim
from django_celery_extensions.config import settings
from django_celery_extensions.dispatch import add_header, claim_ended_here
from django_celery_extensions.exceptions import StoreUnavailable
from django_celery_extensions.heartbeat import heartbeat
from django_celery_extensions.invocation import (
    TOKEN,
    Header,
    new_id,
    request_header,
    request_in_canvas,
)
from django_celery_extensions.keys import unique_name
from django_celery_extensions.options import limits_of
from django_celery_extensions.rearming import owe_queued, rearmed
from django_celery_extensions.results import IGNORED
from django_celery_extensions.settling import REACHED, marks_of, queued_again, settle
from django_celery_extensions.stores import claim_store
from django_celery_extensions.stores.base import Answer, Ask, Holding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.app.task import Context

    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: How long the start and the end of a body wait for a store that can't be reached: seconds between the tries.
STORE_PAUSES = (0.5, 1.5)
#: Name of the message header that counts how often a message came back for its mutex.
WAITS = "dce_waits"
#: Seconds before a message that has to wait comes back: the first, doubled each time, and the longest.
WAIT_FIRST, WAIT_LONGEST = 0.1, 5.0
#: How often a second delivery of a message waits for the message that the first one sent instead (its retry).
PATIENCE = 10


class Execution:
    """One delivery of one message: what it was sent with, and what it holds."""

    def __init__(self, task: DjangoTask, request: Context) -> None:
        self.task = task
        self.request = request
        self.task_id = str(request.id)
        self._marks = marks_of(vars(request))
        self.token = str(self._marks.get(TOKEN) or new_id())
        self.eager = bool(request.is_eager)
        header = request_header(request)
        self.header = self._own_header() if header is None else header
        self.canvas = self.header.canvas or request_in_canvas(request)
        if self.header.follows is not None:
            self._marks[REACHED] = True  # it has no claim that could be given up
        self.claim: Claim | None = None
        #: A retry of the same task has been sent: the claim is that message's now.
        self.handed_over = False

    def _own_header(self) -> Header:
        # Sent by somebody else (send_task, another language, plain beat): what its caller would have said.
        request, task = self.request, self.task
        hard, soft = request.timelimit or (None, None)
        limits = limits_of(task, {}, {"time_limit": hard, "soft_time_limit": soft})
        name = unique_name(task, settings.UNIQUE_TASK_KEY_PREFIX, request.args or (), request.kwargs or {})
        return Header(task_id=self.task_id, invocation_id=self.task_id, name=name, stale=limits.stale)

    @property
    def stores_result(self) -> bool:
        """Tell whether the outcome of this task is stored for its callers."""
        return not (self.request.ignore_result or self.task.ignore_result)

    def start(self, *, look_at_window: bool = True) -> Answer:
        """Ask the store whether the body may run; wait for it a little where it can't be reached."""
        policy = self.task.policy
        lease = min(policy.lease, self.header.stale)
        ask = Ask(
            name=self.header.name,
            task_id=self.task_id,
            token=self.token,
            claim=lease if policy.claims else None,
            window=policy.window and look_at_window,
            until_start=policy.until_start,
            patient=self.header.follows == self.task_id and self.header.waits < PATIENCE,
            follows=(self.canvas and self.header.follows) or "",
        )
        answer: Answer
        asked_at, answer = patiently(lambda: claim_store(eager=self.eager).start(ask))
        if answer.verdict is not Verdict.FREE:
            return answer
        self._marks[REACHED] = True
        if policy.runs_alone:
            holding = Holding(name=ask.name, task_id=ask.task_id, token=ask.token, fence=answer.fence)
            self.claim = Claim(holding, lease=lease, stale=self.header.stale, asked_at=asked_at)
            heartbeat.keep(self.claim)
        else:
            self._claim_ended()
        return answer

    def settle(self, *, succeeded: bool) -> None:
        """End the claim, if it is still this execution's, and open the window after a success."""
        window = self.task.policy.window_after_success if succeeded and not self.handed_over else None
        claim = self._drop_claim()
        if window is None and (claim is None or self.handed_over):
            return
        holding = self._holding()
        try:
            patiently(lambda: claim_store(eager=self.eager).settle(holding, window))
        except StoreUnavailable as exc:
            logger.warning(
                "the claim of %s[%s] ends by itself within %s seconds: %s",
                self.task.name,
                self.task_id,
                self.task.policy.lease,
                exc,
                extra=self.header.log_extra,
            )
        else:
            self._claim_ended()

    def _claim_ended(self) -> None:
        if self.eager:
            claim_ended_here(self.task_id)

    def give_up_queued(self) -> None:
        """End a claim that is queued for this task, which has ended by another delivery of its message."""
        try:
            claim_store(eager=self.eager).settle(self._holding(), lost=True)
        except StoreUnavailable as exc:
            logger.warning(
                "the claim of %s[%s] ends by itself: %s",
                self.task.name,
                self.task_id,
                exc,
                extra=self.header.log_extra,
            )

    def end(self, exc: BaseException) -> None:
        """Settle the claim after the body raised."""
        # Without acks_late the message was acknowledged before its body, and can't come back.
        may_come_back = self.task.acks_late and not self.eager
        if isinstance(exc, Retry) and self.eager and getattr(exc, "sig", None) is not None:
            self.requeue()  # Celery runs the retry here and now, once the tracer is done
        elif isinstance(exc, Reject) and getattr(exc, "requeue", False) and may_come_back:
            self.requeue()
        elif not isinstance(exc, Exception) and may_come_back:
            # The process is told to end. Whether the broker brings the message back, and so whether the claim is
            # kept, the worker's parent process knows. If that ends too, the lease does.
            self._drop_claim()
        else:
            self.settle(succeeded=False)

    def _drop_claim(self) -> Claim | None:
        claim, self.claim = self.claim, None
        if claim is not None:
            heartbeat.drop(claim)
        return claim

    def requeue(self) -> None:
        """Keep the claim for the same task, queued again; one that only a run holds ends with the run."""
        if not self.task.policy.unique:
            self.settle(succeeded=False)
            return
        if self._drop_claim() is None:
            return
        lasts = queued_again(self.task, self.header, self.request.expires)
        ask = Ask(name=self.header.name, task_id=self.task_id, claim=lasts, proof=self.token)
        try:
            patiently(lambda: claim_store(eager=self.eager).admit(ask))
        except StoreUnavailable as exc:
            owe_queued(self._holding(), lasts)
            logger.warning(
                "the claim of %s[%s] is not kept for its next run: %s",
                self.task.name,
                self.task_id,
                exc,
                extra=self.header.log_extra,
            )

    def stay_queued(self, countdown: float) -> None:
        """Undo a start that got no answer, once the store is back: it may have been carried out, or may be yet.

        Its lease would end before the message, which was sent again, comes back after ``countdown`` seconds.
        """
        policy = self.task.policy
        if policy.unique and self.header.follows in (None, self.task_id):
            lasts = queued_again(self.task, self.header, self.request.expires, countdown)
            owe_queued(self._holding(), lasts)
        elif policy.claims:  # it had no claim before
            heartbeat.owe(partial(settle, self._holding()))

    def _holding(self) -> Holding:
        return Holding(name=self.header.name, task_id=self.task_id, token=self.token)

    def wait(self, why: str, *, follows: str | None, countdown: float | None = None) -> Ignore:
        """Send the message again, to come back after a while; costs no retry.

        It takes over the result of the task that it ``follows``, if there is one by then.
        """
        if countdown is None:
            countdown = growing(self.header.waits)
        header = replace(self.header, follows=follows, waits=self.header.waits + 1)
        if follows == self.task_id:  # it has begun in time
            self.request.expires, header = None, replace(header, expires=None)
        self._count_anew()
        options = again(self.task, self.request, countdown)
        add_header(self.task, options, header)
        self.task.send(self.request.args, self.request.kwargs, **options)
        return self.skip(f"it waits {countdown:g} s: {why}")

    def wait_queued(self, why: str, countdown: float) -> Ignore:
        """The same for a message that keeps its claim: it stays queued, with all its time."""
        self._count_anew()
        if not self.header.claimed:
            return self.wait(why, follows=self.header.follows, countdown=countdown)
        lasts = queued_again(self.task, self.header, self.request.expires, countdown)
        with rearmed(self.task, self.header, self.token, lasts):
            return self.wait(why, follows=self.header.follows, countdown=countdown)

    def _count_anew(self) -> None:
        if self.header.expires is not None:
            self.request.expires = None  # ours, which is counted from each time that the message is sent

    def skip(self, why: str) -> Ignore:
        """Let this delivery go without running it; the state of the task is somebody else's to tell."""
        self._marks[REACHED] = True
        logger.info(
            "task %s[%s] is not run: %s",
            self.task.name,
            self.task_id,
            why,
            extra=self.header.log_extra,
        )
        return Ignore(why)

    def drop(self, why: str) -> Ignore:
        """Let the message go for good: state IGNORED."""
        if self.stores_result and not self.eager:
            self.task.backend.store_result(self.task_id, None, IGNORED, request=self.request)
        return self.skip(why)


def come_back(task: DjangoTask, request: Context, why: str) -> Ignore:
    """Let a message come back after a delay that grows each time; its claim, if it has one, stays queued."""
    waits = vars(request).get(WAITS) or 0
    countdown = growing(waits)
    request.headers = {**(request.headers or {}), WAITS: waits + 1}
    if task.policy.guarded:
        return Execution(task, request).wait_queued(why, countdown)
    task.send(request.args, request.kwargs, **again(task, request, countdown))
    logger.info(
        "task %s[%s] waits %g s: %s", task.name, request.id, countdown, why, extra={"task_id": request.id}
    )
    return Ignore(why)


def again(task: DjangoTask, request: Context, countdown: float) -> dict[str, Any]:
    """Return the options that send the message of a request once more; it costs no retry."""
    signature = task.signature_from_request(request, countdown=countdown, retries=request.retries)
    options = dict(signature.options)
    sqs.stay_in_group(request, options)
    return options


def growing(waits: int) -> float:
    """Return how many seconds a message waits that has waited so often before."""
    longest: float = min(WAIT_FIRST * 2 ** min(waits, 30), WAIT_LONGEST)
    return longest


def patiently(step: Callable[[], Any]) -> tuple[float, Any]:
    """Take a step of the store, a few times if need be; returns when it was asked (monotonic) and its answer."""
    for pause in STORE_PAUSES:
        asked_at = time.monotonic()
        try:
            return asked_at, step()
        except StoreUnavailable:
            time.sleep(pause)
    return time.monotonic(), step()
