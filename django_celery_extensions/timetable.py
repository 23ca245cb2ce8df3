"""The entries of beat's schedule, each with its plan: read from the configuration, and looked at again while beat runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.beat import ScheduleEntry

from django_celery_extensions.exceptions import TaskConfigurationError
from django_celery_extensions.slots import SECOND, CatchUp, Crontab, Rule, catch_up_of, rule_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from celery import Celery
    from celery.beat import Scheduler

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When one entry is to be fired."""

    rule: Rule
    catch_up: CatchUp
    #: Microseconds after which a slot is fired no more, whatever ``catch_up`` says.
    max_age: int | None = None


def plan_of(entry: Any, tz: tzinfo, deadline: float | None = None) -> Plan:
    """Return the plan of a schedule entry; ``deadline`` is Celery's setting beat_cron_starting_deadline.

    Raises :class:`TaskConfigurationError` for an entry that can't be fired.
    """
    what = f"beat_schedule[{entry.name!r}]"
    if not entry.task or not isinstance(entry.task, str):
        msg = f"{what}: task is {entry.task!r}; give the name of a task"
        raise TaskConfigurationError(msg)
    rule = rule_of(entry.schedule, tz, what)
    max_age = round(deadline * SECOND) if deadline is not None and isinstance(rule, Crontab) else None
    return Plan(rule=rule, catch_up=catch_up_of(entry.catch_up, what), max_age=max_age)


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


class Timetable:
    """What a scheduler has to fire, as it was when it was looked at last."""

    def __init__(self, app: Celery, scheduler: Scheduler) -> None:
        self._app = app
        self._scheduler = scheduler
        self._plans: dict[str, tuple[Any, Plan | None]] = {}
        self._configured: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def entry(self, name: str) -> Any:
        """Return the entry of that name."""
        return self._plans[name][0]

    def plans(self) -> dict[str, Plan]:
        """Return the plan of each entry that has one."""
        return {name: plan for name, (_, plan) in self._plans.items() if plan is not None}

    def plan(self, entry: Any) -> Plan:
        """Return the plan of an entry; raises :class:`TaskConfigurationError` for one that can't be fired."""
        return plan_of(entry, self._app.timezone, self._app.conf.beat_cron_starting_deadline)

    def read(self) -> None:
        """Put the entries of the configuration into the schedule."""
        self._configured = self._configuration()
        for name, given in self._configured.items():
            self._schedule[name] = entry_of(name, given, self._app)

    def check(self) -> None:
        """Make all plans; raises :class:`TaskConfigurationError` for the first entry that can't be fired."""
        self._plans = {name: (entry, self.plan(entry)) for name, entry in self._schedule.items()}
        unknown = sorted({entry.task for entry in self._schedule.values()} - set(self._app.tasks))
        if unknown:
            logger.warning(
                "beat sends %s by name: this app knows no such task (is its module imported?)",
                ", ".join(unknown),
            )

    def look(self) -> bool:
        """Take over what was changed in the configuration or in the schedule; returns whether anything was.

        An entry that can't be fired is told, and left out: a beat that runs goes on.
        """
        self._look_at_configuration()
        if self._plans.keys() == self._schedule.keys() and all(
            self._plans[name][0] is entry for name, entry in self._schedule.items()
        ):
            return False
        plans: dict[str, tuple[Any, Plan | None]] = {}
        for name, entry in self._schedule.items():
            known = self._plans.get(name)
            if known is not None and known[0] is entry:
                plans[name] = known
                continue
            plans[name] = (entry, None)
            try:
                plans[name] = (entry, self.plan(entry))
            except TaskConfigurationError as exc:
                logger.error("%s", exc)  # noqa: TRY400 - the message says it all
        self._plans = plans
        return True

    def _look_at_configuration(self) -> None:
        configured = self._configuration()
        if configured == self._configured:
            return
        for name in self._configured.keys() - configured.keys():
            self._schedule.pop(name, None)
        for name, given in configured.items():
            if self._configured.get(name) != given:
                try:
                    self._schedule[name] = entry_of(name, given, self._app)
                except TaskConfigurationError as exc:
                    logger.error("%s", exc)  # noqa: TRY400 - likewise
        self._configured = configured

    @property
    def _schedule(self) -> dict[str, Any]:
        found: Any = self._scheduler.schedule
        return found  # type: ignore[no-any-return]

    def _configuration(self) -> dict[str, dict[str, Any]]:
        return {name: dict(entry) for name, entry in self._app.conf.beat_schedule.items()}
