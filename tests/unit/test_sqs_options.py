"""Options that only SQS knows; tests/integration/test_brokers.py shows what comes to its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_celery_extensions import sqs
from django_celery_extensions.exceptions import InvalidOption
from tests.project import tasks

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.live import Live
    from tests.unit.conftest import Queue

pytestmark = pytest.mark.django_db(transaction=True)


def test_delay_of_sqs_comes_on_top_of_the_stale_limit(queue: Queue, live_app: Live) -> None:
    options: dict[str, Any] = {"DelaySeconds": 600, "stale_time_limit": 60, "time_limit": 10}
    result = tasks.silent.apply_async(("a",), **options)
    with live_app.store.client() as client:
        (key,) = client.keys("*silent*")
        assert 600 < client.ttl(key) <= 660
    (message,) = queue.messages()
    assert message.task_id == result.id
    assert message.properties["DelaySeconds"] == 600


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 0),
        ({"DelaySeconds": 5}, 5),
        ({"delay_seconds": 2.5}, 2.5),
        ({"delay_seconds": None, "DelaySeconds": 3}, 3),
        ({"DelaySeconds": -1}, 0),
        ({"DelaySeconds": "soon"}, 0),
    ],
)
def test_delay_is_what_kombu_makes_of_it(options: dict[str, Any], seconds: float) -> None:
    assert sqs.delay(options) == seconds


@pytest.mark.parametrize("many", ["apply_async_many", "apply_async_many_on_commit"])
def test_many_calls_can_not_share_a_deduplication_id(queue: Queue, many: str) -> None:
    """SQS would keep the first message and drop the others."""
    with pytest.raises(InvalidOption, match="can't share the MessageDeduplicationId 'one'"):
        getattr(tasks.silent, many)([((1,), None), ((2,), None)], MessageDeduplicationId="one")
    assert queue.ids() == []
    assert not tasks.silent.is_processing((1,))


@pytest.mark.parametrize("wrong", ["MessageGroupID", "MessageDeduplicationid", "delay_second"])
def test_misspelt_option_of_sqs_is_refused(queue: Queue, wrong: str) -> None:
    with pytest.raises(InvalidOption, match="did you mean"):
        tasks.add.apply_async((1, 2), **{wrong: "x"})


def test_group_and_deduplication_are_given_by_the_setting_only(
    queue: Queue, settings: SettingsWrapper
) -> None:
    tasks.add.delay(1, 2)
    settings.DJANGO_CELERY_EXTENSIONS_AUTO_SQS_MESSAGE_GROUP_ID = True
    result = tasks.add.delay(1, 2)
    tasks.add.apply_async((1, 2), MessageGroupId="g", MessageDeduplicationId="d")
    plain, automatic, given = (message.properties for message in queue.messages())
    assert not {sqs.GROUP, sqs.DEDUPLICATION} & plain.keys()
    assert automatic[sqs.GROUP] == result.id
    assert automatic[sqs.DEDUPLICATION] not in (None, result.id)
    assert (given[sqs.GROUP], given[sqs.DEDUPLICATION]) == ("g", "d")
