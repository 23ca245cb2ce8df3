"""Members of canvases, and canvases made of them, each ending in `arrive`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import chain, chord, group

from tests.project import journal
from tests.project.celery import app
from tests.project.tasks import collect

if TYPE_CHECKING:
    from collections.abc import Callable


class Sad(Exception):
    pass


@app.task(bind=True, unique=True)
def member(self: Any, key: str) -> str:
    """Run until the gate opens; fail where the key says so."""
    journal.write("start", key, self.request.id, self.request.retries)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)
    if key.startswith("sad"):
        raise Sad(key)
    return f"{key}:{self.request.id}"


@app.task(bind=True, unique=True, ignore_result=True)
def quiet(self: Any, key: str) -> str:
    """The same, with no result for anybody to take over."""
    journal.write("start", key, self.request.id, self.request.retries)
    journal.wait_for_gate(key)
    journal.write("end", key, self.request.id)
    return key


@app.task(bind=True, ignore_task_after_success=True, ignore_task_timedelta=timedelta(hours=1))
def windowed(self: Any, key: str) -> str:
    journal.write("start", key, self.request.id, self.request.retries)
    return f"{key}:{self.request.id}"


@app.task
def same(value: Any) -> Any:
    return value


@app.task
def arrive(value: Any, label: str = "") -> Any:
    journal.write("arrived", value, label)
    return value


@app.task
def lament(task_id: str) -> None:
    journal.write("lament", task_id)


MEMBERS = {"member": member, "quiet": quiet, "windowed": windowed}

#: Canvases in which the signature that is given stands at several places.
CANVASES: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "first of a chain": lambda one: chain(one(), arrive.s()),
    "last of a chain": lambda one: chain(same.si("x"), one(), arrive.s()),
    "twice in a chain": lambda one: chain(one(), one(), arrive.s()),
    "group in a chain": lambda one: chain(group(one(), one()), arrive.s()),
    "chains in a group": lambda one: group(chain(one(), arrive.s("left")), chain(one(), arrive.s("right"))),
    "header of a chord": lambda one: chord([one(), same.si("x"), one()], arrive.s()),
    "body of a chord": lambda one: chord([same.si("x"), same.si("y")], chain(one(), arrive.s())),
    "chord in a group in a chain": lambda one: chain(
        group(chain(same.si("x"), one()), chord([one(), same.si("y")], collect.s())), arrive.s()
    ),
    "with a link": lambda one: one().on_error(lament.s()).set(link=arrive.s()),
}


def build(canvas: str, name: str, key: str) -> Any:
    return CANVASES[canvas](lambda: MEMBERS[name].si(key))


@app.task
def send(canvas: str, name: str, key: str, *, errback: bool = False) -> None:
    """Send a canvas: from a worker, when called there."""
    made = build(canvas, name, key)
    if errback:
        made.link_error(lament.s())
    made.apply_async()
