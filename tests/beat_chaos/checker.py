"""Reads the history of a run: which slots were claimed, started and lost, and how long nobody fired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.chaos.lives import outages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.chaos.history import Event

SECOND = 1_000_000
#: Two starts of an entry that are due a second apart and come this close are one slot started twice, for systems that
#: do not tell which slot a message is for.
TOO_CLOSE = 0.4


@dataclass(kw_only=True)
class Findings:
    """What a run came to."""

    counts: Counter[str] = field(default_factory=Counter)
    #: Seconds in which nothing was sent, store outages left out: the longest.
    silence: float = 0.0
    violations: list[str] = field(default_factory=list)
    claims_known: bool = True


def check(events: Sequence[Event], *, bound: float, records: Mapping[str, Any] | None = None) -> Findings:
    """Check a run of a system whose messages say which slot they are for; ``records`` are the store's at the end."""
    found = Findings()
    starts = Counter((event["entry"], event["slot"]) for event in events if event["e"] == "start")
    claims = Counter((event["entry"], event["slot"]) for event in events if event["e"] == "claim")
    found.counts["slots started"] = len(starts)
    found.counts["slots claimed twice"] = sum(n > 1 for n in claims.values())
    found.counts["slots started twice"] = sum(n > 1 for n in starts.values())
    found.violations += [f"claimed {n} times: {what}" for what, n in claims.items() if n > 1]
    found.violations += [f"started {n} times: {what}" for what, n in starts.items() if n > 1]
    for entry in sorted({entry for entry, _ in starts}):
        slots = sorted(slot for name, slot in starts if name == entry)
        expected = set(range(slots[0], slots[-1] + 1, SECOND))
        lost = sorted(expected - set(slots))
        found.counts["slots lost"] += len(lost)
        found.violations += [f"lost: {entry} {slot}" for slot in lost]
        if set(slots) - expected:
            found.violations.append(f"{entry}: slots that are not on its grid: {set(slots) - expected}")
        if records is not None:
            # The last beat may have been told to end between its last claim and the message.
            record = records[entry]
            claimed = (record.slot - slots[0]) // SECOND + 1
            if record.count != claimed:
                found.counts["slots claimed twice"] += 1
                found.violations.append(f"{entry}: {record.count} claims of {claimed} slots")
            if record.sent and record.slot != slots[-1]:
                found.counts["slots lost"] += 1
                found.violations.append(f"{entry}: its last slot {record.slot} was not started")
    sendings = Counter((event["entry"], event["slot"]) for event in events if event["e"] == "sent")
    found.counts["slots sent again"] = sum(n > 1 for n in sendings.values())
    _silence(events, found)
    if found.silence > bound:
        found.violations.append(f"silent for {found.silence:.2f} s, more than {bound:.2f} s")
    return found


def check_peer(events: Sequence[Event]) -> Findings:
    """Check a run of a system whose messages do not say so, by the moments at which they were started."""
    found = Findings(claims_known=False)
    entries = sorted({event["entry"] for event in events if event["e"] == "start"})
    ends = max((event["t"] for event in events if event["e"] == "end"), default=0.0)
    for entry in entries:
        moments = sorted(event["t"] for event in events if event["e"] == "start" and event["entry"] == entry)
        twice = sum(later - earlier < TOO_CLOSE for earlier, later in pairwise(moments))
        found.counts["slots started"] += len(moments)
        found.counts["slots started twice"] += twice
        found.counts["slots lost"] += max(0, round(ends - moments[0]) - (len(moments) - twice))
    _silence(events, found)
    return found


def _silence(events: Sequence[Event], found: Findings) -> None:
    sent = [event["t"] for event in events if event["e"] == "sent"]
    ends = [event["t"] for event in events if event["e"] == "end"]
    away_from = outages(events)
    for earlier, later in pairwise([*sent, *ends]):
        away = sum(max(0.0, min(later, span.to) - max(earlier, span.t)) for span in away_from)
        found.silence = max(found.silence, later - earlier - away)


def table(rows: Mapping[str, tuple[Findings, Mapping[str, int]]], bound: float) -> str:
    """Return the report: one system a row."""
    columns = ("slots started", "slots claimed twice", "slots started twice", "slots lost")
    head = "".join(f"{column:>21}" for column in (*columns, "longest silence", "killed/frozen/store"))
    lines = ["", f"{'system':<36}{head}"]
    for name, (findings, harms) in rows.items():
        cells = [findings.counts[column] for column in columns]
        # Only ours tells what was claimed.
        texts = [
            str(cell) if findings.claims_known or column != "slots claimed twice" else "-"
            for column, cell in zip(columns, cells, strict=True)
        ]
        harm = "/".join(str(harms.get(each, 0)) for each in ("killed", "frozen", "store killed"))
        lines.append(
            f"{name:<36}" + "".join(f"{text:>21}" for text in [*texts, f"{findings.silence:.2f} s", harm])
        )
    lines.append(f"silence allowed: {bound:.2f} s (lease + look + 1), outages of the store left out")
    for name, (findings, _) in rows.items():
        lines += [f"{name}: {violation}" for violation in findings.violations[:20]]
    return "\n".join(lines)
