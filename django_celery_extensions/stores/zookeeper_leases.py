"""Leases in ZooKeeper: they last as long as the session of the process that holds them.

A name that nobody uses has no nodes: one round trip makes them all, which only the first one can, and another one takes
them away. Where that fails, the same answer tells who holds it and who waits. Who waits is queued by ZooKeeper's own
numbers, watches only the one before, and takes the slot as soon as that is gone. See
:mod:`~django_celery_extensions.stores.zookeeper_nodes` for the nodes.
"""

from __future__ import annotations

import secrets
import time
from itertools import count
from operator import methodcaller
from time import monotonic
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import KazooException

from django_celery_extensions.exceptions import StoreUnavailable, TaskConfigurationError
from django_celery_extensions.stores import zookeeper_nodes as nodes
from django_celery_extensions.stores import zookeeper_steps as steps
from django_celery_extensions.stores.leases import Grant, Holder, LeaseAsk, LeaseHolding, LeaseStore
from django_celery_extensions.stores.zookeeper_client import session_name
from django_celery_extensions.stores.zookeeper_session import current_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_celery_extensions.stores.zookeeper_client import ZooKeeperClient

#: Part of a session timeout in which a renewal must succeed; it is tried again within, on another server.
_RENEWAL = 0.25
#: Seconds before trying again: what was not answered, or at most so many where others were faster.
_PAUSE = 0.02


class ZooKeeperLeaseStore(LeaseStore):
    """Leases in ZooKeeper, bound to the session of this process.

    A lease lasts for the session timeout, which is asked for as ``LOCK_TIMEOUT`` and granted by the servers within
    their own limits, whatever :attr:`LeaseAsk.lasts` says: :attr:`Grant.lasts` tells. A session that was lost is not
    taken up again, and neither is what it held. A place in the queue lasts as long as the session too.

    ``margin``: what a server hears of a session reaches the leader with the server's next answer to the leader's
    pings, of which there are two in a tick. Where the two lose each other right after a renewal, the leader may know
    only of what came half a tick before it and earlier: of the client's last ping, up to a tenth of the session
    timeout older still. A session lasts two ticks at least, so these are 0.25 and 0.1 of it; the rest of the margin
    is for clocks that drift.
    """

    margin = 0.4
    place = "zookeeper"
    shared = True
    counts = True

    def take(self, ask: LeaseAsk) -> Grant:
        """See :meth:`LeaseStore.take`."""
        client = current_client()
        until = monotonic() + client.within
        client.be_heard(until)
        grant, found, tried = _at_once(client, ask)
        room = None if tried else steps.first(ask)
        for attempt in count():
            if grant is not None:
                return grant
            if attempt > 1:
                if monotonic() >= until:
                    break
                time.sleep(_PAUSE * secrets.randbelow(100) / 100)
            if attempt:
                found = steps.look(client, ask)
            if found is not None:
                grant = _among_others(client, ask, found)
            else:
                grant = _make(client, ask, 0, before=steps.make_room(client, ask) if room is None else room)
                room = None
        msg = f"others were always faster than {ask.owner}, which asked for {ask.name} for {client.within} s"
        raise StoreUnavailable(msg)

    def wait(self, ask: LeaseAsk, at_most: float) -> None:
        """See :meth:`LeaseStore.wait`."""
        until = monotonic() + at_most
        client = current_client()
        bell = client.bell(ask.token)
        bell.clear()
        # Not by the leader's word: where this server is behind, it rings when it catches up.
        found = steps.look(client, ask, synced=False)
        if found is None:
            return
        ahead, places = found.ahead(ask.token), found.places(ask.token)
        # Nobody can come before it any more, and so it needs no look when the slot is free.
        turn = places[0].path if ask.most == 1 and not ahead and len(places) == 1 else None
        if not ahead and len(found.slots) < ask.most:
            bell.turn = turn
            return
        watched = [ahead[-1].path] if ahead else [nodes.slot_path(found.path, slot) for slot in found.slots]
        stats = client.ask(*(methodcaller("exists_async", path, watch=bell) for path in watched))
        if None in stats or bell.wait(max(0.0, until - monotonic())):
            bell.turn = turn

    def leave(self, ask: LeaseAsk) -> None:
        """See :meth:`LeaseStore.leave`.

        Also ends what was asked for before and not answered: the requests of a session are carried out in order.
        """
        client = current_client()
        client.drop_bell(ask.token)
        found = steps.look(client, ask)
        if found is None:
            return
        requests: list[steps.Request] = [
            methodcaller("delete_async", place.path) for place in found.places(ask.token)
        ]
        held = found.hold(ask.token)
        if held is not None:
            requests.append(steps.deletion(found.path, held.slot, held.token))
        *_, children = client.ask(*requests, methodcaller("get_children_async", found.path))
        steps.tidy(client, ask.name, ask.most, children)

    def give_back(self, holding: LeaseHolding) -> bool:
        """See :meth:`LeaseStore.give_back`."""
        if holding.slot is not None:
            return steps.end(current_client(), holding.name, holding.most, holding.slot, holding.token)
        return self._end(holding.name, holding.token)

    def holders(self, name: str) -> Sequence[Holder]:
        """See :meth:`LeaseStore.holders`."""
        client = current_client()
        found, _ = steps.find(client, name)
        if found is None:
            return []
        answers = client.ask(*(methodcaller("get_async", hold.path) for hold in found.holds))
        holders = [
            Holder(
                name=name,
                owner=nodes.owner_in(answer[0]),
                token=hold.token,
                fence=answer[1].czxid,
                since=answer[1].ctime / 1000,
                expires_in=None,
            )
            for hold, answer in zip(found.holds, answers, strict=True)
            if not isinstance(answer, KazooException)
        ]
        return sorted(holders, key=lambda holder: holder.fence)

    def evict(self, holder: Holder) -> bool:
        """See :meth:`LeaseStore.evict`."""
        return self._end(holder.name, holder.token)

    def renew(self, holdings: Sequence[tuple[LeaseHolding, float]]) -> list[bool]:
        """See :meth:`Renewer.renew`. Makes sure, by a quorum's word, that the session and the nodes are there."""
        client = current_client()
        until = monotonic() + _RENEWAL * client.lasts
        while True:
            session = client.session
            ours = [at for at, (holding, _) in enumerate(holdings) if holding.session == session]
            if not ours:
                return [False] * len(holdings)
            paths = [_path(holdings[at][0]) for at in ours]
            try:
                client.be_heard(until)
                results, *stats = client.ask(
                    _quorum(paths[0]),
                    *(methodcaller("exists_async", path) for path in paths),
                    within=until - monotonic(),
                )
                steps.failure(client, results)
            except TaskConfigurationError as exc:
                raise StoreUnavailable(str(exc)) from exc
            except StoreUnavailable:
                # The session may have moved to another server, or ended, meanwhile.
                if client.away or monotonic() + _PAUSE >= until:
                    raise
                time.sleep(_PAUSE)
            else:
                kept = {at for at, stat in zip(ours, stats, strict=True) if _is(holdings[at][0], stat)}
                return [at in kept for at in range(len(holdings))]

    @staticmethod
    def _end(name: str, token: str) -> bool:
        client = current_client()
        found, most = steps.find(client, name)
        held = None if found is None else found.hold(token)
        return held is not None and steps.end(client, name, most, held.slot, token)


def _at_once(client: ZooKeeperClient, ask: LeaseAsk) -> tuple[Grant | None, nodes.Limit | None, bool]:
    """Take it without a look, or have one: the grant, who holds and waits, whether all its nodes were tried."""
    turn = client.turn(ask.token)
    if turn is not None:
        stat, error = steps.make(client, ask, 0, places=(turn,))
    elif ask.name not in client.held_by_others:
        stat, error = steps.make(client, ask, 0, before=steps.first(ask))
    else:
        return None, steps.look(client, ask), False
    if error is None:
        return _grant(client, ask, 0, stat), None, True
    return None, steps.look(client, ask, synced=False), turn is None


def _among_others(client: ZooKeeperClient, ask: LeaseAsk, found: nodes.Limit) -> Grant | None:
    """Return the answer to an ask, None where somebody was faster."""
    held = found.hold(ask.token)
    if held is not None:
        return _taken_before(client, ask, held)
    places = found.places(ask.token)
    free = _free_slots(found, ask)
    if free:
        # Any of them: those who ask at the same time shall not all compete for the first.
        return _make(client, ask, secrets.choice(free), places=places)
    if not ask.waits or places or steps.queue(client, ask):
        client.held_by_others.add(ask.name)
        return Grant(holding=None)
    return None


def _make(
    client: ZooKeeperClient,
    ask: LeaseAsk,
    slot: int,
    *,
    places: Sequence[nodes.Place] = (),
    before: Sequence[steps.Request] = (),
) -> Grant | None:
    stat, error = steps.make(client, ask, slot, places=[place.path for place in places], before=before)
    return _grant(client, ask, slot, stat) if error is None else None


def _free_slots(found: nodes.Limit, ask: LeaseAsk) -> list[int]:
    if len(found.slots) + len(found.ahead(ask.token)) >= ask.most:
        return []
    return [slot for slot in range(ask.most) if slot not in found.slots]


def _grant(client: ZooKeeperClient, ask: LeaseAsk, slot: int, stat: Any) -> Grant:
    client.drop_bell(ask.token)
    client.held_by_others.discard(ask.name)
    holding = LeaseHolding(
        name=ask.name,
        token=ask.token,
        fence=stat.czxid,
        most=ask.most,
        session=session_name(stat.ephemeralOwner),
        slot=slot,
    )
    return Grant(holding=holding, lasts=client.lasts)


def _taken_before(client: ZooKeeperClient, ask: LeaseAsk, held: nodes.Hold) -> Grant | None:
    results, stat = client.ask(_quorum(held.path), methodcaller("exists_async", held.path))
    if steps.failure(client, results) is not None or stat is None:
        return None
    if session_name(stat.ephemeralOwner) == client.session:
        return _grant(client, ask, held.slot, stat)
    # Of a session that is not ours any more and will end: nothing can renew it.
    steps.end(client, ask.name, ask.most, held.slot, ask.token)
    return None


def _quorum(path: str) -> steps.Request:
    """Return a request that only a quorum can answer: it counts as a write, though it writes nothing.

    A leader that was voted out, or a server that lost the leader, answers all else until it finds out; the former
    answers a sync too.
    """
    return steps.transaction(methodcaller("check", path, -1))


def _path(holding: LeaseHolding) -> str:
    return nodes.hold_path(nodes.limit_path(holding.name, holding.most), holding.slot or 0, holding.token)


def _is(holding: LeaseHolding, stat: Any) -> bool:
    return stat is not None and (session_name(stat.ephemeralOwner), stat.czxid) == (
        holding.session,
        holding.fence,
    )
