"""How leases are laid out in ZooKeeper's tree.

::

    /django_celery_extensions/leases/<name>/of=<most>/slot=<i>
                                                      hold=<i>=<token>   {"token", "owner"}
                                                      wait=<token>=<sequence>

``of=<most>`` is the only child of its name, made and replaced in one transaction with it. A transaction that makes
another limit deletes it, and so fails while there is anything in it. What holds or waits is ephemeral. ``slot=<i>``
is what holders compete for; ``hold=<i>=<token>`` is made, and goes, in one transaction with it: who deletes both can
delete nothing that belongs to somebody else by now.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "/django_celery_extensions/leases"
#: Characters of a name that a node shows as they are, besides those that URLs do. No "=": it parts the parts.
_READABLE = ":@"
_LONGEST = 200
_LONGEST_OWNER = 1000


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A node of somebody who holds."""

    path: str
    slot: int
    token: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node of somebody who waits."""

    path: str
    token: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The node of a name and a limit, and what was in it when it was looked at."""

    path: str
    slots: frozenset[int]
    holds: tuple[Hold, ...]
    #: Who comes first is first.
    queue: tuple[Place, ...]

    @property
    def empty(self) -> bool:
        """Nobody holds or waits."""
        return not (self.slots or self.holds or self.queue)

    def hold(self, token: str) -> Hold | None:
        """Return what a token holds, if anything."""
        return next((hold for hold in self.holds if hold.token == token), None)

    def places(self, token: str) -> list[Place]:
        """Return the places of a token. There are several where an answer was lost."""
        return [place for place in self.queue if place.token == token]

    def ahead(self, token: str) -> tuple[Place, ...]:
        """Return the places before that of a token: all of them for one that has none."""
        mine = next((at for at, place in enumerate(self.queue) if place.token == token), len(self.queue))
        return self.queue[:mine]


def name_path(name: str) -> str:
    """Return the node of a name. No name leaves it: not "", "." or "..", nor one with slashes."""
    quoted = _quoted(name)
    if len(quoted) > _LONGEST:
        digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        quoted = f"{quoted[:100]}={digest}"
    return f"{ROOT}/n={quoted}"


def limit_path(name: str, most: int) -> str:
    """Return the node of a name and a limit."""
    return f"{name_path(name)}/of={most}"


def slot_path(limit: str, slot: int) -> str:
    """Return the node that only one can make."""
    return f"{limit}/slot={slot}"


def hold_path(limit: str, slot: int, token: str) -> str:
    """Return the node of a holder."""
    return f"{limit}/hold={slot}={_quoted(token)}"


def place_prefix(limit: str, token: str) -> str:
    """Return the node of somebody who waits, without the number that ZooKeeper gives it."""
    return f"{limit}/wait={_quoted(token)}="


def limit_of(children: Iterable[str]) -> int | None:
    """Return the limit of a name, from the children of its node."""
    for child in children:
        if re.fullmatch("of=[0-9]+", child):
            return int(child.removeprefix("of="))
    return None


def parse(limit: str, children: Iterable[str]) -> Limit:
    """Return what is in the node of a limit. What is not ours is passed over."""
    slots, holds, queue = set(), [], []
    for child in children:
        kind, *parts = child.split("=")
        path = f"{limit}/{child}"
        if kind == "slot" and len(parts) == 1:
            slots.add(int(parts[0]))
        elif kind == "hold" and len(parts) == 2:  # noqa: PLR2004 - slot and token
            holds.append(Hold(path=path, slot=int(parts[0]), token=_unquoted(parts[1])))
        elif kind == "wait" and len(parts) == 2:  # noqa: PLR2004 - token and number
            queue.append(Place(path=path, token=_unquoted(parts[0]), number=int(parts[1])))
    queue.sort(key=lambda place: place.number)
    return Limit(path=limit, slots=frozenset(slots), holds=tuple(holds), queue=tuple(queue))


def describe(token: str, owner: str) -> bytes:
    """Return the data of the node of a holder."""
    return json.dumps({"token": token, "owner": owner[:_LONGEST_OWNER]}).encode()


def owner_in(data: bytes) -> str:
    """Return who it is, from the data of the node of a holder."""
    owner: str = json.loads(data)["owner"]
    return owner


def _quoted(text: str) -> str:
    return quote(text, safe=_READABLE, errors="surrogatepass")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogatepass")
