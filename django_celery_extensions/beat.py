"""A beat scheduler that you can run many times, while only one fires: ``celery beat -S LockedPersistentScheduler``.

:meth:`LockedPersistentScheduler.tick` is the whole of it, to be read top to bottom: lead or stand by, take over, look at
the schedule, send what the last leader may not have sent, claim a slot, send its message. Nothing is sent that was not
claimed in the store before, and nothing is claimed without a lease that can be trusted. There is no local state: a
file that is named on the command line is neither read nor written.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler, SchedulingError
from celery.utils import uuid
from kombu.exceptions import OperationalError

from django_celery_extensions.agenda import Agenda, Clock
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import (
    LeaseLost,
    StoreUnavailable,
    UniqueTaskConflict,
)
from django_celery_extensions.leadership import Leadership, durations
from django_celery_extensions.once import SLOT, SlotHeader, slot_id
from django_celery_extensions.slots import SECOND, when
from django_celery_extensions.stores import lease_store, slot_store
from django_celery_extensions.stores.slots import Verdict
from django_celery_extensions.timetable import Entry, Timetable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from django_celery_extensions.stores.slots import Sent, SlotRecord

__all__ = ["Entry", "LockedPersistentScheduler"]

logger = logging.getLogger(__name__)

#: Seconds before a step is tried again that the store or the broker did not answer.
RETRY_SECONDS = 0.5
#: What can't be sent now and may be sent later. Anything else would be the same the next time: an OSError is a hook's, as
#: Celery makes an OperationalError of those of the broker.
_LATER = (OperationalError, StoreUnavailable)


class LockedPersistentScheduler(Scheduler):
    """Leads or stands by. As the leader, it fires each slot of each entry once.

    Raises :class:`TaskConfigurationError` at the start if a setting, the cache or an entry is invalid.
    """

    Entry = Entry
    schedule: dict[str, Any]

    def __init__(self, app: Celery, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        #: Accepted, and not used: the state is shared.
        self.schedule_filename = schedule_filename
        self.clock = Clock()
        self._leadership: Leadership | None = None
        self._agenda: Agenda | None = None
        #: Records of the time when this process led, for a store that has lost them since.
        self._remembered: Mapping[str, SlotRecord] = {}
        #: What went out, and is not noted in the store yet.
        self._sent: list[Sent] = []
        self._look_at = 0.0
        self._broker_away = False
        self._quiet_until = 0.0
        self._ticking = False
        self._timetable = Timetable(app, self)
        super().__init__(app, *args, **kwargs)

    # --- the schedule ------------------------------------------------------------------------------------

    def setup_schedule(self) -> None:
        """Read the configuration, and refuse what can't work; asks no store and opens no file."""
        durations()
        slot_store()
        if settings.LOCK_STORE != "zookeeper":  # whose session would be opened here
            lease_store()
        self._timetable.read()
        self.install_default_entries(self.schedule)
        self._timetable.check()

    def add(self, **kwargs: Any) -> Any:
        """Add an entry to the schedule of a running beat."""
        entry: Any = self.Entry(app=self.app, **kwargs)
        self._timetable.plan(entry)
        self.schedule[entry.name] = entry
        self._look_at = 0.0
        return entry

    # --- one step ----------------------------------------------------------------------------------------

    def tick(self, *_: Any, **__: Any) -> float:
        """Do one step of beat; returns the seconds until the next one."""
        self._ticking = True
        try:
            pause = self._step()
        except StoreUnavailable as exc:
            self._lead().trouble(exc)
            pause = RETRY_SECONDS
        except LeaseLost as exc:
            self._stop_leading()
            self._lead().step_down(str(exc))
            pause = self._lead().pause
        finally:
            self._ticking = False
        return pause if self.max_interval is None else min(pause, self.max_interval)

    def _step(self) -> float:
        leadership = self._lead()
        if not leadership.look():
            self._stop_leading()
            return leadership.pause
        agenda = self._agenda
        if agenda is None:
            agenda = self._take_over(leadership)
        elif monotonic() >= self._look_at or len(self.schedule) != len(self._timetable):
            self._refresh(leadership, agenda)
        if monotonic() < self._quiet_until:
            return min(self._quiet_until - monotonic(), leadership.pause)
        now = self.clock.now()
        name = agenda.to_send_again(now)
        if name is not None:
            self._send_again(leadership, agenda, name)
            return 0.0
        if agenda.due(now) is not None:
            self._fire(leadership, agenda)
            return 0.0
        self._note_sent(leadership)
        return max(0.0, min((agenda.next_at() - self.clock.now()) / SECOND, leadership.pause))

    def _lead(self) -> Leadership:
        if self._leadership is None:
            self._leadership = Leadership()
        return self._leadership

    def _take_over(self, leadership: Leadership) -> Agenda:
        self._note_sent(leadership)  # what this process sent when it led before
        self._timetable.look()
        self._look_at = monotonic() + leadership.pause
        asked_at = self.clock.tick()
        slots = slot_store().open(leadership.leader, [*self.schedule])
        if slots.verdict is Verdict.FENCED:
            leadership.refused()
        _ensure(leadership, slots.verdict)
        self.clock.follow(slots.now, asked_at)
        records = slots.records
        if slots.empty and not leadership.others_led:
            records = self._remembered
        agenda = Agenda(records, self.clock.now())
        self._arrange(leadership, agenda, everything=slots.empty)
        leadership.others_led = False
        self._agenda = agenda
        for entry in self.schedule.values():
            self._update(entry, agenda)
        leadership.leads()
        return agenda

    def _refresh(self, leadership: Leadership, agenda: Agenda) -> None:
        if self._timetable.look():
            self._arrange(leadership, agenda)
            for entry in self.schedule.values():
                self._update(entry, agenda)
        self._look_at = monotonic() + leadership.pause

    def _arrange(self, leadership: Leadership, agenda: Agenda, *, everything: bool = False) -> None:
        changed, forget = agenda.arrange(self._timetable.plans(), self.clock.now())
        if everything:
            changed = agenda.records
        if changed or forget:
            try:
                verdict = slot_store().enter(leadership.leader, changed, forget)
            except StoreUnavailable:
                self._agenda = None  # once more, from the start
                raise
            _ensure(leadership, verdict)

    def _fire(self, leadership: Leadership, agenda: Agenda) -> None:
        """Claim the slot that is due, and send its message."""
        claim = agenda.due(self.clock.now())
        if claim is None:
            return
        _ensure(leadership)
        sent, asked_at = [*self._sent], self.clock.tick()
        verdict, moment = slot_store().claim(leadership.leader, claim, sent)
        self.clock.follow(moment, asked_at)
        leadership.leads()
        self._sent = self._sent[len(sent) :]
        if verdict is Verdict.TAKEN:
            logger.warning(
                "slot %s of %r was claimed before; reading all again", when(claim.slot), claim.entry
            )
            self._agenda = None
            return
        _ensure(leadership, verdict)  # also where the answer took long: whoever leads now sends it
        agenda.claimed(claim, leadership.leader.fence, self.clock.now())
        self._send(agenda, claim.entry, claim.sending)

    def _send_again(self, leadership: Leadership, agenda: Agenda, name: str) -> None:
        """Send a slot that was claimed, by this leader or by the last one, and may not have been sent."""
        _ensure(leadership)
        slot = agenda.records[name].slot
        verdict = slot_store().again(leadership.leader, name, slot, slot_id(leadership.name, name, slot))
        leadership.leads()
        if verdict is Verdict.STARTED:
            self._went_out(agenda, name)
            return
        _ensure(leadership, verdict)
        logger.warning("slot %s of %r may not have been sent; sending it again", when(slot), name)
        self._send(agenda, name, uuid())

    def _stop_leading(self) -> None:
        if self._agenda is not None:
            self._remembered = self._agenda.records
            self._agenda = None

    # --- sending -----------------------------------------------------------------------------------------

    def _send(self, agenda: Agenda, name: str, sending: str) -> None:
        entry = self._timetable.entry(name)
        slot = agenda.records[name].slot
        logger.info("Scheduler: Sending due task %s (%s)", name, entry.task)
        try:
            self.apply_async(self._message(entry, slot, sending), producer=self.producer, advance=False)
        except Exception as exc:
            cause = exc.__context__ if isinstance(exc, SchedulingError) else exc
            if isinstance(cause, _LATER):
                agenda.postpone(name, self.clock.now())
                self._quiet_until = monotonic() + RETRY_SECONDS
                self._tell_broker(away=True, why=str(exc))
                return
            if isinstance(cause, UniqueTaskConflict):
                logger.info("%s", cause)
            else:
                logger.exception("slot %s of %r can't be sent", when(slot), name)
        self._tell_broker(away=False)
        self._went_out(agenda, name)
        self._update(entry, agenda)

    def _message(self, entry: Any, slot: int, sending: str) -> Any:
        """Return the entry as it is sent for this slot."""
        name = self._lead().name
        options = dict(entry.options)
        task_id = options.setdefault("task_id", slot_id(name, entry.name, slot))
        header = SlotHeader(task_id=task_id, beat=name, entry=entry.name, slot=slot, sending=sending)
        options["headers"] = {**(options.get("headers") or {}), SLOT: header.pack()}
        return self.Entry(**{**dict(entry), "options": options})

    def _went_out(self, agenda: Agenda, name: str) -> None:
        self._sent.append((name, agenda.records[name].slot))
        agenda.sent(name, self.clock.now())

    def _note_sent(self, leadership: Leadership) -> None:
        if self._sent:
            sent = [*self._sent]
            slot_store().mark(leadership.name, sent)
            self._sent = self._sent[len(sent) :]

    def _update(self, entry: Any, agenda: Agenda) -> None:
        """Let an entry say what the store says."""
        record = agenda.records.get(entry.name)
        if record is not None:
            entry.last_run_at = when(record.last, self.app.timezone)
            entry.total_run_count = record.count

    def _tell_broker(self, *, away: bool, why: str = "") -> None:
        if away is not self._broker_away:
            self._broker_away = away
            if away:
                logger.warning("beat can't send, and tries again: %s", why)
            else:
                logger.warning("beat can send again")

    def _ensure_connected(self) -> Any:
        # Celery's waits for the broker for ten minutes and more, in which a leader could not stop leading.
        return self.connection.ensure_connection(max_retries=1, interval_start=0)

    # --- Celery's other methods --------------------------------------------------------------------------

    def should_sync(self) -> bool:
        """Tell Celery that there is nothing to write now and then."""
        return False

    def sync(self) -> None:
        """Note in the store what went out."""
        if self._leadership is not None:
            try:
                self._note_sent(self._leadership)
            except StoreUnavailable as exc:
                logger.warning("beat could not note what it has sent: %s", exc)

    def close(self) -> None:
        """Note what went out, and let the next one lead at once."""
        if self._ticking:
            return  # a signal came between: Celery closes again when the step was left
        try:
            super().close()
        finally:
            # Celery does this itself from 5.7 on.
            vars(self).pop("producer", None)
            connection = vars(self).pop("connection", None)
            if connection is not None:
                connection.release()
            self._stop_leading()
            if self._leadership is not None:
                self._leadership.resign()

    @property
    def info(self) -> str:
        """What the banner of ``celery beat`` says."""
        return f"    . state -> the cache {settings.CACHE_NAME!r}, led under {settings.BEATER_LOCK_KEY!r}"


_WHY = {
    Verdict.FENCED: "the store knows a leader with a larger fence",
    Verdict.GONE: "the store has lost what it knew",
}


def _ensure(leadership: Leadership, verdict: Verdict = Verdict.DONE) -> None:
    """Raise :class:`LeaseLost` unless the store agreed, and the lease can be trusted."""
    if verdict is Verdict.FENCED:
        leadership.others_led = True
    if verdict is not Verdict.DONE or not leadership.held:
        raise LeaseLost(_WHY.get(verdict, "its lease was not renewed in time, or was taken away"))
