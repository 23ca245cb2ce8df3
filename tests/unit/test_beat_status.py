"""`manage.py beat_status`: who leads, where the entries stand, and an exit code for health checks."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from django.core.management import CommandError, call_command

from django_celery_extensions.leadership import beat_name
from django_celery_extensions.stores import slot_store
from django_celery_extensions.stores.slots import Leader, SlotClaim
from tests.project.celery import app
from tests.unit.stores import redis_options, use_cache
from tests.unit.test_beat import MakeBeat, every, lose, make_beat

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import MakeServer

__all__ = ["make_beat"]


def status(*arguments: str) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    out = io.StringIO()
    try:
        call_command("beat_status", *arguments, stdout=out)
    except CommandError as exc:
        return exc.returncode, out.getvalue() + str(exc)
    return 0, out.getvalue()


def json_status() -> dict[str, Any]:
    out = io.StringIO()
    call_command("beat_status", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_nobody_leads(make_beat: MakeBeat) -> None:
    app.conf.beat_schedule = {"a": every(10)}
    code, text = status()
    assert code == 1
    assert "nobody leads" in text
    assert "not seen by a leader yet" in text


def test_somebody_leads(make_beat: MakeBeat) -> None:
    beat = make_beat({"a": every(10), "b": every(3600)})
    beat.run()
    beat.run(10)
    code, text = status()
    assert code == 0
    assert "led by" in text
    assert "2026-03-02 12:00:10" in text
    said = json_status()
    assert said["led"]
    assert 0 < said["leader"]["lease_left"] <= 15
    assert said["leader"]["fence"] > 10**15
    a, b, *_ = said["entries"]
    assert (a["name"], a["runs"], a["last_slot"], a["pending"]) == (
        "a",
        1,
        "2026-03-02T12:00:10+00:00",
        False,
    )
    assert (b["last_slot"], b["runs"]) == (None, 0)
    assert a["next_due"] is not None
    lose(beat)
    assert status("--json")[0] == 1


def test_slot_that_is_not_known_to_be_sent(make_beat: MakeBeat) -> None:
    beat = make_beat({"a": every(10)})
    beat.run()
    leader = beat.scheduler._leadership.leader
    claim = SlotClaim(entry="a", slot=beat.clock.moment + 1, sending="s", rule="r")
    slot_store().claim(leader, claim, [])
    assert "claimed, not known to be sent" in status()[1]
    assert json_status()["entries"][0]["pending"]


def test_entries_that_are_wrong_or_known_to_the_store_only(make_beat: MakeBeat) -> None:
    app.conf.beat_schedule = {"wrong": every(0)}
    leader = Leader(name=beat_name(), place="cache", fence=1)
    slot_store().open(leader, [])
    slot_store().claim(leader, SlotClaim(entry="added", slot=5, sending="s", rule="r"), [])
    _, text = status()
    assert "more than 0 seconds" in text
    assert "(not in the configuration)" in text


def test_store_that_is_away(settings: SettingsWrapper, make_server: MakeServer) -> None:
    from tests.servers import RedisServer

    server = make_server(RedisServer)
    use_cache(settings, redis_options("django-redis", server.url))
    server.kill()
    code, text = status()
    assert code == 2
    assert "can't be used" in text
