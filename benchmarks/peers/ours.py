"""`DjangoTask` of this repository, its claims in Redis through django-redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Peer, calling, repeating, together
from .celery_parts import body, configure, django, in_one_transaction, in_transaction

if TYPE_CHECKING:
    from .base import Measure, Servers

PEER = Peer(
    name="ours",
    title="`DjangoTask`",
    requirements=("celery[redis]==5.7.*", "django>=5.2,<5.3"),
    packages=("celery", "kombu", "redis", "django", "django-redis"),
    groups=("enqueue", "many"),
    ours=True,
)


def measures(servers: Servers) -> dict[str, Measure]:
    django(servers, "django_celery_extensions")
    from django_celery_extensions.celery import Celery

    app = configure(Celery("bench"), servers)
    plain = app.task(name="plain")(body)
    unique = app.task(name="unique", unique=True)(body)
    return {
        "enqueue.not_unique": calling(plain.delay),
        "enqueue.free": calling(unique.delay),
        "enqueue.duplicate": repeating(unique.delay),
        "enqueue.on_commit": calling(in_transaction(plain.delay_on_commit)),
        "enqueue.on_commit_1000": together(in_one_transaction(plain.delay_on_commit)),
        "many.many": together(lambda values: plain.delay_many([(value,) for value in values])),
        "many.unique": together(lambda values: unique.delay_many([(value,) for value in values])),
    }
