"""Which cells there are: all pairs of values, without those that can't be."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Oldest first. tox.ini has the same versions.
DIMENSIONS: Mapping[str, Sequence[str]] = {
    "python": ("3.10", "3.11", "3.12", "3.13"),
    "django": ("5.2", "6.0", "6.1"),
    "celery": ("5.5", "5.6", "5.7"),
    "broker": ("redis", "rabbitmq", "rabbitmq quorum", "sqs", "sqlalchemy"),
    "backend": ("redis", "rpc", "django-db", "memcached", "none"),
    "cache": (
        "django-redis",
        "django's redis",
        "sentinel",
        "cluster",
        "valkey",
        "memcached",
        "postgresql",
        "sqlite",
    ),
    "pool": ("prefork", "threads", "solo", "gevent", "eventlet"),
}
VERSIONS = ("python", "django", "celery")

#: tox's environment with every dependency at the lowest version that pyproject.toml allows.
LOWEST = "lowest"
#: No environment of tox's: the one that runs us.
INSTALLED = "installed"

#: (a value, what it needs of another dimension, why).
RULES: tuple[tuple[tuple[str, Sequence[str]], tuple[str, Sequence[str]], str], ...] = (
    (("django", ("6.0", "6.1")), ("python", ("3.12", "3.13")), "Django 6 needs Python 3.12"),
    (
        ("backend", ("rpc",)),
        ("broker", ("rabbitmq", "rabbitmq quorum")),
        "RPC results are messages of AMQP",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination."""

    python: str
    django: str
    celery: str
    broker: str
    backend: str
    cache: str
    pool: str
    #: An environment that is not one of the versions: LOWEST or INSTALLED.
    special: str = ""

    @property
    def environment(self) -> str:
        """The name of tox's environment, or INSTALLED."""
        if self.special:
            return self.special
        return f"py{self.python}-django{self.django}-celery{self.celery}".replace(".", "")

    def __str__(self) -> str:
        return f"{self.environment}: {self.broker} / {self.backend} / {self.cache} / {self.pool}"

    def values(self) -> dict[str, str]:
        """Return the value of each dimension."""
        return {name: value for name, value in asdict(self).items() if name in DIMENSIONS}

    @property
    def order(self) -> tuple[int, ...]:
        """Where it stands in a table: oldest versions first."""
        known = (
            (DIMENSIONS[name].index(value) if value in DIMENSIONS[name] else -1)
            for name, value in self.values().items()
        )
        return (len(self.special), *known)


def impossible(values: Mapping[str, str]) -> str | None:
    """Tell why these values (of some dimensions or of all) can't go together; None when they can."""
    for (name, bound), (other, allowed), why in RULES:
        if values.get(name) in bound and values.get(other, allowed[0]) not in allowed:
            return why
    return None


def all_pairs() -> list[Cell]:
    """Return cells that hold every possible pair of values, and every possible triple of versions.

    The same each time; the first ones hold the most pairs.
    """
    import covertable

    constraints = [
        {
            "operator": "or",
            "conditions": [
                {"operator": "not", "condition": {"operator": "in", "left": name, "values": list(bound)}},
                {"operator": "in", "left": other, "values": list(allowed)},
            ],
        }
        for (name, bound), (other, allowed), _ in RULES
    ]
    rows = covertable.make(
        {name: list(values) for name, values in DIMENSIONS.items()},
        constraints=constraints,
        sub_models=[{"fields": list(VERSIONS), "strength": len(VERSIONS)}],
    )
    return [Cell(**row) for row in rows]


def environments(cells: Sequence[Cell]) -> list[str]:
    """Return the environments of these cells, each once."""
    return list(dict.fromkeys(cell.environment for cell in cells))


def _cells(versions: Mapping[str, Any], *places: str) -> Iterator[Cell]:
    for place in places:
        broker, backend, cache, pool = place.split(" / ")
        yield Cell(**versions, broker=broker, backend=backend, cache=cache, pool=pool)


OLDEST = {name: DIMENSIONS[name][0] for name in VERSIONS}
NEWEST = {name: DIMENSIONS[name][-1] for name in VERSIONS}


def lowest() -> list[Cell]:
    """Return cells for the lowest versions of the libraries that we name ourselves."""
    return list(
        _cells(
            {**OLDEST, "special": LOWEST},
            "redis / redis / django-redis / prefork",
            "rabbitmq / rpc / django's redis / gevent",
            "redis / none / memcached / threads",
            "redis / redis / sentinel / solo",
        )
    )


def version_corners() -> list[Cell]:
    """Return the cells of CI that need other versions than those installed: the ends, and the newest on Python 3.11."""
    place = "redis / redis / django-redis / prefork"
    middle = {"python": "3.11", "django": "5.2", "celery": DIMENSIONS["celery"][-1]}
    return [
        *_cells({**OLDEST, "special": LOWEST}, place),
        *_cells(OLDEST, "redis / redis / django's redis / threads"),
        *_cells(middle, "redis / none / memcached / solo"),
        *_cells(NEWEST, place),
    ]


def place_corners() -> list[Cell]:
    """Return a few cells with every broker, every result backend and most caches, on what is installed here."""
    installed = {
        "python": platform.python_version(),
        "django": metadata.version("django"),
        "celery": metadata.version("celery"),
        "special": INSTALLED,
    }
    return list(
        _cells(
            installed,
            "redis / memcached / cluster / prefork",
            "rabbitmq / rpc / postgresql / threads",
            "rabbitmq quorum / redis / valkey / gevent",
            "sqs / django-db / memcached / prefork",
            "sqlalchemy / none / sqlite / solo",
        )
    )
