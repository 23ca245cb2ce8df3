"""Steps on the nodes of leases, each one wave of requests that are sent together."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import (
    KazooException,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)

from django_celery_extensions.exceptions import HolderLimitConflict, TaskConfigurationError
from django_celery_extensions.stores import zookeeper_nodes as nodes
from django_celery_extensions.stores.zookeeper_client import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django_celery_extensions.stores.leases import LeaseAsk
    from django_celery_extensions.stores.zookeeper_client import ZooKeeperClient

    #: What is done with a client, or as a part of a transaction.
    Request = Callable[[Any], Any]


def transaction(*ops: Request) -> Request:
    """Return the request to carry out all of these, or none."""

    def commit(kazoo: Any) -> Any:
        made = kazoo.transaction()
        for op in ops:
            op(made)
        return made.commit_async()

    return commit


def failure(client: ZooKeeperClient, results: Any) -> KazooException | None:
    """Return why a transaction was not carried out, if it was not."""
    for result in [results] if isinstance(results, KazooException) else results:
        if isinstance(result, KazooException) and not isinstance(
            result, (RolledBackError, RuntimeInconsistency)
        ):
            if isinstance(result, ANSWERS):
                return result
            raise client.refusal(result) from result
    return None


def look(client: ZooKeeperClient, ask: LeaseAsk, *, synced: bool = True) -> nodes.Limit | None:
    """Return who holds and waits with the limit of an ask, None where there is no node of it.

    Not ``synced``: this server's word, which is no older than its last answer to a transaction of ours.
    """
    path = nodes.limit_path(ask.name, ask.most)
    requests: list[Request] = [methodcaller("get_children_async", path)]
    if synced:
        # A server that is behind would call held what was given back.
        requests.insert(0, methodcaller("sync_async", path))
    children = client.ask(*requests)[-1]
    return None if isinstance(children, NoNodeError) else nodes.parse(path, children)


def find(client: ZooKeeperClient, name: str) -> tuple[nodes.Limit | None, int]:
    """Return who holds and waits for a name, and its limit."""
    path = nodes.name_path(name)
    _, children = client.ask(methodcaller("sync_async", path), methodcaller("get_children_async", path))
    most = None if isinstance(children, NoNodeError) else nodes.limit_of(children)
    if most is None:
        return None, 0
    limit = nodes.limit_path(name, most)
    (children,) = client.ask(methodcaller("get_children_async", limit))
    return (None if isinstance(children, NoNodeError) else nodes.parse(limit, children)), most


def queue(client: ZooKeeperClient, ask: LeaseAsk) -> bool:
    """Make a place in the queue; False where its node is gone."""
    prefix = nodes.place_prefix(nodes.limit_path(ask.name, ask.most), ask.token)
    (made,) = client.ask(methodcaller("create_async", prefix, ephemeral=True, sequence=True))
    return not isinstance(made, KazooException)


def make(
    client: ZooKeeperClient,
    ask: LeaseAsk,
    slot: int,
    *,
    places: Iterable[str] = (),
    before: Iterable[Request] = (),
) -> tuple[Any, KazooException | None]:
    """Take a slot, and give up places: return what the node of the holder is like, or why there is none."""
    limit = nodes.limit_path(ask.name, ask.most)
    path = nodes.hold_path(limit, slot, ask.token)
    (results,) = client.ask(
        transaction(
            *before,
            methodcaller("create", nodes.slot_path(limit, slot), ephemeral=True),
            methodcaller("create", path, ephemeral=True),
            *(methodcaller("delete", place) for place in places),
            # Its answer tells what the node is like; a request of its own for that would cost as much as all this.
            methodcaller("set_data", path, nodes.describe(ask.token, ask.owner)),
        )
    )
    error = failure(client, results)
    return (results[-1] if error is None else None), error


def first(ask: LeaseAsk) -> tuple[Request, ...]:
    """Return what must come before a slot, where the name has no node."""
    limit = nodes.limit_path(ask.name, ask.most)
    return methodcaller("create", nodes.name_path(ask.name)), methodcaller("create", limit)


def make_room(client: ZooKeeperClient, ask: LeaseAsk) -> tuple[Request, ...]:
    """Return what must come before a slot, where the name has no node of this limit.

    Raises :class:`HolderLimitConflict` where it has one of another limit that somebody uses.
    """
    found, most = find(client, ask.name)
    if found is None:
        (made,) = client.ask(methodcaller("ensure_path_async", nodes.ROOT))
        if isinstance(made, NoNodeError):
            msg = "the chroot in zookeeper_hosts is not there: create that node"
            raise TaskConfigurationError(msg)
        return first(ask)
    if most == ask.most:
        return ()  # somebody was faster
    if not found.empty:
        raise HolderLimitConflict(ask.name, ask.most, most)
    return methodcaller("delete", found.path), methodcaller("create", nodes.limit_path(ask.name, ask.most))


def end(client: ZooKeeperClient, name: str, most: int, slot: int, token: str) -> bool:
    """Delete what a token holds, unless it is gone; return whether it was there.

    And the nodes of the name, where nobody else uses them: names come and go, and nobody else would.
    """
    limit = nodes.limit_path(name, most)
    if name not in client.waited_for:
        (results,) = client.ask(deletion(limit, slot, token, *_name(name, most)))
        error = failure(client, results)
        if not isinstance(error, NotEmptyError):
            return error is None
        client.waited_for.add(name)
    results, children = client.ask(deletion(limit, slot, token), methodcaller("get_children_async", limit))
    if tidy(client, name, most, children):
        client.waited_for.discard(name)
    return failure(client, results) is None


def deletion(limit: str, slot: int, token: str, *more: Request) -> Request:
    """Return the request to delete what a token holds, and nothing that is another's by now; and more."""
    return transaction(
        methodcaller("delete", nodes.hold_path(limit, slot, token)),
        methodcaller("delete", nodes.slot_path(limit, slot)),
        *more,
    )


def tidy(client: ZooKeeperClient, name: str, most: int, children: object) -> bool:
    """Take the nodes of a name away when nobody uses them; return whether that is so."""
    if children != []:
        return False
    client.send(transaction(*_name(name, most)))
    return True


def _name(name: str, most: int) -> tuple[Request, Request]:
    return (
        methodcaller("delete", nodes.limit_path(name, most)),
        methodcaller("delete", nodes.name_path(name)),
    )
