"""One call of a task, and the header that its message carries.

The header holds what the worker must not make again: the unique name (a tuple that became a list would
give another one) and how long the claim lasts. It names the task id it was made for, so that headers
copied to another message mean nothing there.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Any

from django_celery_extensions.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery.app.task import Context

#: Name of the message header.
HEADER = "dce"
#: Name in the header of a received message of the owner token that this delivery was given.
TOKEN = "token"  # noqa: S105
#: Name in a request of the execution that it became.
EXECUTION = "dce_execution"


#: The digit that says which kind of UUID it is keeps two of its random bits.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def new_id() -> str:
    """Return a random UUID of version 4, as ``celery.utils.uuid`` does in three times the time."""
    return _uuid(os.urandom(16).hex())


def new_ids() -> tuple[str, str]:
    """Return two of them, for one question to the system."""
    digits = os.urandom(32).hex()
    return _uuid(digits[:32]), _uuid(digits[32:])


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


class Outcome(str, Enum):
    """How an invocation ended, or that it has not yet."""

    WAITING = "waiting"
    TRIGGERED = "triggered"
    UNIQUE = "unique"
    IGNORED = "ignored"
    #: One of many, whose message may have gone out or not: the broker did not answer.
    UNCERTAIN = "uncertain"

    def __str__(self) -> str:
        return self.value


#: Parts of a header that a message carries only where they say something.
_OPTIONAL = ("expires", "claimed", "made", "canvas", "follows", "waits", "looks")


@record
class Header:
    """What a message says about its claim and its ignore window."""

    task_id: str
    invocation_id: str
    #: Unique name of the call.
    name: str
    #: Seconds the claim may last, from the start to the end of the body (and again for each wait).
    stale: float
    #: Seconds after which the message is too old, where that limit is ours (None: the caller's, or none).
    expires: float | None = None
    #: The caller holds a claim for this message.
    claimed: bool = False
    #: Fence of the claim that was made for this message, where its task id may be that of other messages too.
    made: int = 0
    #: Others depend on this very message: it is never dropped without an answer.
    canvas: bool = False
    #: Task id whose result this message waits for.
    follows: str | None = None
    #: How often it has waited.
    waits: int = 0
    #: How often it found that the task which it follows has ended, and no result.
    looks: int = 0
    #: Owner token that the worker gave to this delivery; never sent.
    token: str = ""

    @property
    def log_extra(self) -> dict[str, Any]:
        """What a log line about the task carries."""
        return {"task_id": self.task_id, "invocation_id": self.invocation_id, "key": self.name}

    def pack(self) -> dict[str, Any]:
        """Return the header as a message carries it."""
        packed = {
            "id": self.task_id,
            "invocation": self.invocation_id,
            "name": self.name,
            "stale": self.stale,
        }
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value:
                packed[name] = value
        return packed


def read_header(headers: Mapping[str, Any] | None, task_id: str | None) -> Header | None:
    """Return our header among ``headers``, if there is one and it was made for this task id."""
    packed = headers.get(HEADER) if headers else None
    if not isinstance(packed, dict) or packed.get("id") != task_id or "name" not in packed:
        return None
    return Header(
        task_id=packed["id"],
        invocation_id=packed["invocation"],
        name=packed["name"],
        stale=packed["stale"],
        expires=packed.get("expires"),
        claimed=packed.get("claimed", False),
        made=packed.get("made", 0),
        canvas=packed.get("canvas", False),
        follows=packed.get("follows"),
        waits=packed.get("waits", 0),
        looks=packed.get("looks", 0),
        token=packed.get(TOKEN, ""),
    )


def request_header(request: Context) -> Header | None:
    """Return our header of the message that ``request`` came from."""
    # A worker spreads custom headers over the request; an eager run keeps them in .headers.
    return read_header(vars(request), request.id) or read_header(request.headers, request.id)


#: Options by which a canvas fixes the id of a message or hangs something on its end.
_CANVAS_OPTIONS = ("chord", "group_id", "link", "link_error")


def in_canvas(options: Mapping[str, Any]) -> bool:
    """Tell whether others depend on this very message: a chain, group, chord, callback or frozen id."""
    return (
        "chain" in options
        or any(options.get(name) for name in _CANVAS_OPTIONS)
        # Signature.freeze sets both; nobody else sets a reply_to with an id of their own.
        or ("task_id" in options and "reply_to" in options)
    )


def request_in_canvas(request: Context) -> bool:
    """Tell the same of a message that a worker has received."""
    return bool(request.chain or request.chord or request.group or request.callbacks or request.errbacks)
