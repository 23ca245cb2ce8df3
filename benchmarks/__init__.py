"""What things cost, measured beside others: `make bench`, or `python -m benchmarks`. A benchmark is not a test.

The *conductor* (everything here but :mod:`benchmarks.agent` and :mod:`benchmarks.peers`) starts the servers and one
*agent* for each peer: a process in a venv of the peer's own, which runs what it is told in blocks of a few hundred
calls. The conductor lets the peers take turns, block by block, so that what else the machine does falls on all of
them; a ratio is the median of the ratios to plain Celery's block of the same round.

A peer is one module, ``benchmarks/peers/NAME.py``, with two names:

``PEER``
    a :class:`benchmarks.peers.base.Peer`: its title, its requirements, the groups of measures it takes part in. It is
    read by the conductor too, so that nothing of the peer may be imported at the top of the module.
``measures(servers)``
    called once in the agent; returns a dict of the measures that the peer knows. A measure is called with a number
    of calls and returns their durations in nanoseconds (or, in some groups, other figures by name).

An agent gets one JSON object on a line, ``{"measure": "enqueue.free", "calls": 200}``, and answers with a line:
``{"ok": …}`` or ``{"error": "…"}``. Its first line tells its versions and measures, or why it can't run: then the peer is
a gap in the tables, with that reason.

A group of measures is a module of :mod:`benchmarks.measures`; ``--measures`` takes their names.
"""
