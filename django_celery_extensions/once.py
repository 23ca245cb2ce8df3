"""Messages of beat that may have been sent twice: a worker starts the task of a slot once.

Beat claims a slot, sends its message, and notes that it did. If it dies in between, the next leader can't know whether
the message went out, and sends it again under the same task id. Each sending has an id of its own in a header of the
message; the one that a worker starts first is the only one that is started. Retries and redeliveries of that message
carry the same header, and run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from celery.exceptions import Ignore

from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.execution import come_back, patiently
from django_celery_extensions.invocation import request_header
from django_celery_extensions.settling import REACHED, marks_of
from django_celery_extensions.stores import claim_store, slot_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery.app.task import Context

    from django_celery_extensions.task import DjangoTask

logger = logging.getLogger(__name__)

#: Name of the message header.
SLOT = "dce_slot"


@dataclass(frozen=True, kw_only=True)
class SlotHeader:
    """What a message of beat says about itself."""

    task_id: str
    #: Name of the beat, and of its entry.
    beat: str
    entry: str
    #: Microseconds since the epoch at which it was due.
    slot: int
    #: Random id of this sending.
    sending: str

    def pack(self) -> dict[str, Any]:
        """Return the header as a message carries it."""
        return {"id": self.task_id, **{name: getattr(self, name) for name in _FIELDS}}


_FIELDS = ("beat", "entry", "slot", "sending")


def slot_id(beat: str, entry: str, slot: int) -> str:
    """Return the task id of a slot: the same one whoever sends it, and however often."""
    return str(uuid5(NAMESPACE_URL, f"django_celery_extensions:{beat}\n{entry}\n{slot}"))


def read_slot(headers: Mapping[str, Any] | None, task_id: str | None) -> SlotHeader | None:
    """Return our header among ``headers``, if there is one and it was made for this task id."""
    packed = headers.get(SLOT) if headers else None
    if (
        not isinstance(packed, dict)
        or packed.get("id") != task_id
        or not all(map(packed.__contains__, _FIELDS))
    ):
        return None
    return SlotHeader(task_id=packed["id"], **{name: packed[name] for name in _FIELDS})


def start_once(task: DjangoTask) -> None:
    """Raise ``Ignore`` if this message is of a slot of which another message was started before.

    Costs nothing for a message that is not beat's, and one round trip for one that is. While the store can't be
    reached nobody knows: the message comes back later.
    """
    request: Context | None = task.request_stack.top
    if request is None or request.is_eager or vars(request).get(SLOT) is None:
        return
    header = read_slot(vars(request), request.id)
    if header is None:
        return
    where = (header.beat, header.entry, header.slot, slot_id(header.beat, header.entry, header.slot))
    try:
        _, first = patiently(lambda: slot_store(eager=True).start(*where, header.sending))
    except StoreUnavailable as exc:
        raise come_back(task, request, str(exc)) from exc
    except TaskConfigurationError as exc:  # not even a later try could tell
        logger.warning(
            "task %s[%s] runs, though it may have run before: %s",
            task.name,
            request.id,
            exc,
            extra={"task_id": request.id},
        )
        return
    if not first:
        why = f"another message of this slot of {header.entry!r} was started before"
        logger.info("task %s[%s] is not run: %s", task.name, request.id, why, extra={"task_id": request.id})
        marks_of(vars(request))[REACHED] = True  # its claim, if there is one, is that other message's
        _end_own_claim(task, request)
        raise Ignore(why)


def _end_own_claim(task: DjangoTask, request: Context) -> None:
    """End the claim that was made for this message: that other one had ended before it was sent."""
    header = request_header(request)
    if header is None or not header.made:
        return
    try:
        store = claim_store(eager=True)
        holding = store.holding(header.name)
        if (
            holding is not None
            and (holding.task_id, holding.token) == (header.task_id, "")
            and holding.fence == header.made
        ):
            store.settle(holding)
    except StoreUnavailable as exc:
        logger.warning(
            "the claim of %s[%s] ends when it is stale: %s",
            task.name,
            request.id,
            exc,
            extra=header.log_extra,
        )
