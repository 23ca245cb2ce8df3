"""What a store of claims and ignore windows must do.

Each step is one atomic decision about one name, and says so in one round trip where the store can. Every
step may be repeated with the same arguments without changing its outcome, so that a client library may
send it again after a lost connection. A store lives as long as the cache object whose connections it uses, and
may be shared between threads as far as that may: :func:`~django_celery_extensions.stores.claim_store` gives
each thread its own. It connects when first used, in the process that uses it.

Every method raises :class:`~django_celery_extensions.exceptions.StoreUnavailable` when it can't know the
answer, and never takes that for an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from django_celery_extensions.records import record

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(str, Enum):
    """What a store says to a task that wants to be queued or run."""

    #: Go ahead; the claim, if one was asked for, is yours.
    FREE = "free"
    #: Another task holds the claim.
    HELD = "held"
    #: Another execution of this very task holds it (the message was delivered twice).
    BUSY = "busy"
    #: The ignore window is open.
    WINDOW = "window"


@record
class Ask:
    """A task that wants to be queued (``token`` empty) or to run (``token`` of the execution).

    ``claim`` is how many seconds the claim shall last, None where no claim is wanted; ``window`` whether an
    open ignore window forbids it.
    """

    name: str
    task_id: str
    token: str = ""
    claim: float | None = None
    window: bool = False
    #: Take the claim from another task that is queued, not running (``unique_on_conflict="replace"``).
    replace: bool = False
    #: To be queued again: the token of the execution that gives the claim back.
    proof: str = ""
    #: End the claim instead of holding it while running (``unique_until="start"``).
    until_start: bool = False
    #: To start: a claim that another execution of this task gave back to the queue is left to that one's message.
    patient: bool = False
    #: To start, of a task that must not be dropped: whose result it looked for in vain.
    follows: str = ""


@record
class Answer:
    """The verdict, and the fence of a new claim.

    ``task_id`` is the task that holds the claim or opened the window; with FREE, the queued task whose claim it was:
    one that was replaced, or the task itself. Empty where there was no claim.
    """

    verdict: Verdict
    task_id: str = ""
    fence: int = 0


@record
class Holding:
    """A claim as it stands in a store. ``token`` is empty while its task is queued."""

    name: str
    task_id: str
    token: str
    fence: int = 0
    #: Tokens of the executions that gave it back to the queue, in order and with blanks between; empty for a first call.
    by: str = ""


@record
class Unsent:
    """A task that was admitted, and of which there is no message."""

    name: str
    task_id: str
    #: The queued task that it took the claim from; empty where there was none.
    replaced: str = ""
    #: Seconds for which that one has the claim again.
    stale: float = 0.0


class Renewer(ABC):
    """A store as the heartbeat sees it."""

    #: Part of a lease that is not trusted: clocks drift, and a check and the write after it take time.
    margin: ClassVar[float] = 0.1
    #: What is kept in one place is renewed together; a name that ``stores.renewer`` knows.
    place: ClassVar[str] = "cache"

    @abstractmethod
    def renew(self, holdings: Sequence[tuple[Any, float]]) -> list[bool]:
        """Let each holding last so many seconds from now; False where it is not its owner's any more.

        Takes everything that is kept in the same place (the claims and the locks of one cache), in one round trip
        where the store can.
        """


class ClaimStore(Renewer):
    """Claims and ignore windows, by the unique name of a call."""

    #: The steps are atomic: no other client can come between reading and writing.
    atomic: ClassVar[bool]
    #: What is written here is seen by other processes.
    shared: ClassVar[bool]

    @abstractmethod
    def admit(self, ask: Ask) -> Answer:
        """Let a task be queued, or not: an open window forbids it, then another task's claim.

        A task that is queued already, or that shows the token it runs with (``ask.proof``), keeps its claim:
        queued again, and armed anew for ``ask.claim`` seconds. A task that was replaced may take its claim back.
        """

    def admit_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """Take one after the other as :meth:`admit` does, in one round trip where the store can.

        Not one decision: others may come between two of them. An error says nothing about any of them.
        """
        return [self.admit(ask) for ask in asks]

    @abstractmethod
    def start(self, ask: Ask) -> Answer:
        """Let a queued task run, or not. It holds the claim with its token then; a missing claim is made.

        A window that forbids it ends the claim of the task. A task whose claim was taken by ``ask.replace`` of
        another one may not start, also when that other one has ended already; unless it has to, nobody holds the
        claim, and the last one that took it is the one that it follows.
        """

    @abstractmethod
    def settle(self, holding: Holding, window: float | None = None, *, lost: bool = False) -> bool:
        """End a claim if task and token are still its own; open the window for ``window`` seconds.

        ``lost``: the execution of this token is gone, perhaps before its start: a claim that is still queued for it
        ends too, unless that execution gave it back to the queue, be it that others did so since.
        Returns whether the claim was still its own.
        """

    @abstractmethod
    def withdraw_many(self, calls: Sequence[Unsent]) -> list[bool]:
        """End the claims of messages that were not sent, one after the other, in one round trip where the store can.

        What such a task replaced may run after all. It is queued again if the claim was the task's still, unless it
        came to its start meanwhile: it has been told then that it may not. Returns of each whether the claim was its.
        """

    @abstractmethod
    def requeue(self, holding: Holding, lasts: float) -> bool:
        """Queue a running claim again for ``lasts`` seconds, if task and token are still its own; never makes one.

        For an execution that does not know whether its start was carried out: by then its message, sent again,
        may have started, or even ended. Returns whether the claim is queued by this execution.
        """

    @abstractmethod
    def open_window(self, name: str, task_id: str, window: float) -> None:
        """Open the ignore window for ``window`` seconds from now."""

    @abstractmethod
    def holding(self, name: str) -> Holding | None:
        """Return the claim of a name, None where there is none."""

    @abstractmethod
    def forget(self, name: str) -> None:
        """End claim and window of a name, whoever they belong to: for people and for tests."""
