"""The beat scheduler of which many can run and one fires: ``celery -A proj beat -S LockedPersistentScheduler``.

:meth:`LockedPersistentScheduler.tick` is the whole of it, to be read top to bottom: lead or stand by, take over, look at
the schedule, send what the last leader may not have sent, claim a slot, send its message. Nothing is sent that was not
claimed in the store before, and nothing is claimed without a lease that can be trusted. There is no local state: a
file that is named on the command line is neither read nor written.
"""

from __future__ import annotations

import logging
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from celery.utils import uuid
from kombu.exceptions import OperationalError

from django_celery_extensions.agenda import Agenda, Clock, plan_of
from django_celery_extensions.config import settings
from django_celery_extensions.exceptions import (
    LeaseLost,
    StoreUnavailable,
    TaskConfigurationError,
    UniqueTaskConflict,
)
from django_celery_extensions.leadership import Leadership, durations
from django_celery_extensions.once import SLOT, SlotHeader, slot_id
from django_celery_extensions.slots import SECOND, when
from django_celery_extensions.stores import lease_store, slot_store
from django_celery_extensions.stores.slots import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from django_celery_extensions.agenda import Plan
    from django_celery_extensions.stores.slots import Sent, SlotRecord

__all__ = ["Entry", "LockedPersistentScheduler"]

logger = logging.getLogger(__name__)

#: Seconds before a step is tried again that the store or the broker did not answer.
RETRY_SECONDS = 0.5
#: What can't be sent now and may be sent later. Anything else would be the same the next time.
_LATER = (OperationalError, OSError, StoreUnavailable)


class Entry(ScheduleEntry):
    """An entry of the schedule, with what becomes of its missed slots: the option ``catch_up``."""

    def __init__(self, *args: Any, catch_up: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options: dict[str, Any] = dict(self.options or {})
        if "catch_up" in options:  # from add_periodic_task, which knows of no other place
            in_options = options.pop("catch_up")
            self.options = options
            catch_up = in_options if catch_up is None else catch_up
        self.catch_up = catch_up

    def update(self, other: Any) -> None:
        """Take over what can be changed of an entry."""
        super().update(other)
        self.catch_up = other.catch_up

    def editable_fields_equal(self, other: Any) -> bool:
        """Compare what can be changed of an entry."""
        return bool(super().editable_fields_equal(other)) and self.catch_up == getattr(
            other, "catch_up", None
        )


def entry_of(name: str, given: Mapping[str, Any], app: Celery) -> Entry:
    """Return the entry that ``beat_schedule`` gives a name.

    Raises :class:`TaskConfigurationError` for what no entry can be made of.
    """
    try:
        return Entry(**{**given, "name": name, "app": app})
    except (TypeError, ValueError, AttributeError) as exc:
        msg = f"beat_schedule[{name!r}]: no entry can be made of {dict(given)!r}: {exc}"
        raise TaskConfigurationError(msg) from exc


class LockedPersistentScheduler(Scheduler):
    """Leads or stands by; as the leader, fires each slot of each entry once.

    Raises :class:`TaskConfigurationError` at its start for settings, a cache and entries that can't work.
    """

    Entry = Entry
    schedule: dict[str, Any]

    def __init__(self, *args: Any, schedule_filename: str | None = None, **kwargs: Any) -> None:
        #: Accepted, and not used: the state is shared.
        self.schedule_filename = schedule_filename
        self.clock = Clock()
        self._leadership: Leadership | None = None
        self._agenda: Agenda | None = None
        #: Records of the time when this process led, for a store that has lost them since.
        self._remembered: Mapping[str, SlotRecord] = {}
        #: What went out, and is not noted in the store yet.
        self._sent: list[Sent] = []
        self._plans: dict[str, tuple[Entry, Plan | None]] = {}
        self._configured: dict[str, dict[str, Any]] = {}
        self._look_at = 0.0
        self._broker_away = False
        self._quiet_until = 0.0
        self._ticking = False
        super().__init__(*args, **kwargs)

    # --- the schedule ------------------------------------------------------------------------------------

    def setup_schedule(self) -> None:
        """Read the configuration, and refuse what can't work; asks no store and opens no file."""
        durations()
        slot_store()
        if settings.LOCK_STORE != "zookeeper":  # whose session would be opened here
            lease_store()
        self._configured = self._configuration()
        self.schedule.update(
            {name: entry_of(name, each, self.app) for name, each in self._configured.items()}
        )
        self.install_default_entries(self.schedule)
        self._plans = {name: (entry, self._plan(entry)) for name, entry in self.schedule.items()}
        unknown = sorted({entry.task for entry in self.schedule.values()} - set(self.app.tasks))
        if unknown:
            logger.warning(
                "beat sends %s by name: this app knows no such task (is its module imported?)",
                ", ".join(unknown),
            )

    def add(self, **kwargs: Any) -> Any:
        """Add an entry to the schedule of a running beat."""
        entry: Any = self.Entry(app=self.app, **kwargs)
        self._plan(entry)
        self.schedule[entry.name] = entry
        self._look_at = 0.0
        return entry

    def _plan(self, entry: Any) -> Plan:
        return plan_of(entry, self.app.timezone, self.app.conf.beat_cron_starting_deadline)

    def _configuration(self) -> dict[str, dict[str, Any]]:
        return {name: dict(entry) for name, entry in self.app.conf.beat_schedule.items()}

    def _look_at_schedule(self) -> bool:
        """Take over what was changed in the configuration or in the schedule; returns whether anything was."""
        configured = self._configuration()
        if configured != self._configured:
            for name in self._configured.keys() - configured.keys():
                self.schedule.pop(name, None)
            for name, given in configured.items():
                if self._configured.get(name) != given:
                    try:
                        self.schedule[name] = entry_of(name, given, self.app)
                    except TaskConfigurationError as exc:
                        logger.error("%s", exc)  # noqa: TRY400 - the message says it all
            self._configured = configured
        if self._plans.keys() == self.schedule.keys() and all(
            self._plans[name][0] is entry for name, entry in self.schedule.items()
        ):
            return False
        plans: dict[str, tuple[Entry, Plan | None]] = {}
        for name, entry in self.schedule.items():
            known = self._plans.get(name)
            if known is not None and known[0] is entry:
                plans[name] = known
                continue
            try:
                plans[name] = (entry, self._plan(entry))
            except TaskConfigurationError as exc:  # a beat that runs goes on, without this entry
                logger.error("%s", exc)  # noqa: TRY400 - the message says it all
                plans[name] = (entry, None)
        self._plans = plans
        return True

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
            pause = 0.0
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
        elif monotonic() >= self._look_at or len(self.schedule) != len(self._plans):
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
            end_in_order()
            self._leadership = Leadership()
        return self._leadership

    def _take_over(self, leadership: Leadership) -> Agenda:
        self._note_sent(leadership)  # what this process sent when it led before
        self._look_at_schedule()
        self._look_at = monotonic() + leadership.pause
        slots = slot_store().open(leadership.leader, [*self.schedule])
        if slots.verdict is not Verdict.DONE:
            self._lose(leadership)
        self.clock.follow(slots.now)
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
        if self._look_at_schedule():
            self._arrange(leadership, agenda)
            for entry in self.schedule.values():
                self._update(entry, agenda)
        self._look_at = monotonic() + leadership.pause

    def _arrange(self, leadership: Leadership, agenda: Agenda, *, everything: bool = False) -> None:
        plans = {name: plan for name, (_, plan) in self._plans.items() if plan is not None}
        changed, forget = agenda.arrange(plans, self.clock.now())
        if everything:
            changed = agenda.records
        if changed or forget:
            try:
                verdict = slot_store().enter(leadership.leader, changed, forget)
            except StoreUnavailable:
                self._agenda = None  # once more, from the start
                raise
            if verdict is not Verdict.DONE:
                self._lose(leadership)

    def _fire(self, leadership: Leadership, agenda: Agenda) -> None:
        """Claim the slot that is due, and send its message."""
        claim = agenda.due(self.clock.now())
        if claim is None:
            return
        if not leadership.held:
            self._lose(leadership)
        sent = [*self._sent]
        verdict, moment = slot_store().claim(leadership.leader, claim, sent)
        self.clock.follow(moment)
        leadership.leads()
        if verdict is Verdict.TAKEN:
            logger.warning(
                "slot %s of %r was claimed before; reading all again", when(claim.slot), claim.entry
            )
            self._sent = self._sent[len(sent) :]
            self._agenda = None
            return
        if verdict is not Verdict.DONE:
            self._lose(leadership)
        self._sent = self._sent[len(sent) :]
        agenda.claimed(claim, leadership.leader.fence, self.clock.now())
        if not leadership.held:  # the answer took long: whoever leads now sends it
            self._lose(leadership)
        self._send(agenda, claim.entry, claim.sending)

    def _send_again(self, leadership: Leadership, agenda: Agenda, name: str) -> None:
        """Send a slot that was claimed, by this leader or by the last one, and may not have been sent."""
        if not leadership.held:
            self._lose(leadership)
        slot = agenda.records[name].slot
        verdict = slot_store().again(leadership.leader, name, slot, slot_id(leadership.name, name, slot))
        leadership.leads()
        if verdict is Verdict.STARTED:
            self._went_out(agenda, name)
        elif verdict is not Verdict.DONE or not leadership.held:
            self._lose(leadership)
        else:
            logger.warning("slot %s of %r may not have been sent; sending it again", when(slot), name)
            self._send(agenda, name, uuid())

    def _lose(self, leadership: Leadership) -> None:
        msg = f"{leadership.name} is led by somebody else, or the store has lost what it knew"
        raise LeaseLost(msg)

    def _stop_leading(self) -> None:
        if self._agenda is not None:
            self._remembered = self._agenda.records
            self._agenda = None

    # --- sending -----------------------------------------------------------------------------------------

    def _send(self, agenda: Agenda, name: str, sending: str) -> None:
        entry = self._plans[name][0]
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
            self._stop_leading()
            if self._leadership is not None:
                self._leadership.resign()

    @property
    def info(self) -> str:
        """What the banner of ``celery beat`` says."""
        return f"    . state -> the cache {settings.CACHE_NAME!r}, led under {settings.BEATER_LOCK_KEY!r}"


def end_in_order() -> None:
    """Let SIGTERM end the process of ``worker -B`` in order; Celery leaves it the default, which is sudden death."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _exit)


def _exit(*_: object) -> None:
    raise SystemExit
