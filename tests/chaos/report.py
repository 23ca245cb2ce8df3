"""The table at the end of a chaos run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.chaos.checker import Findings
    from tests.chaos.history import Event

#: Violations of one rule that are shown.
SHOWN = 8


def table(findings: Findings, harms: Mapping[str, int]) -> str:
    """Return the counts and the violations, one a line."""
    lines = ["", "harm done"]
    lines += [f"  {name:<58}{count:>8}" for name, count in sorted(harms.items())]
    lines += ["", "what happened"]
    lines += [f"  {name:<58}{count:>8}" for name, count in sorted(findings.counts.items())]
    longest = f"{findings.longest_after_kill:.2f} s"
    lines.append(f"  {'longest that a killed body kept its key':<58}{longest:>8}")
    lines += ["", f"violations: {len(findings.violations)}"]
    rules = Counter(rule for rule, _ in findings.violations)
    for rule, count in rules.items():
        lines.append(f"  {rule}: {count}")
        shown = [what for broken, what in findings.violations if broken == rule][:SHOWN]
        lines += [f"    {what}" for what in shown]
    return "\n".join(lines)


def harms(events: Iterable[Event]) -> str:
    """Return when what was done to whom: a violation is read beside it."""
    lines = ["", "harm, from and to"]
    for event in events:
        if event["e"] not in ("kill", "freeze", "outage"):
            continue
        who = [f"{name} {event[name]}" for name in ("worker", "pid", "why") if event.get(name) is not None]
        lines.append(
            f"  {event['t']:.3f} {event.get('to', event['t']):.3f} {event['e']} {' '.join(who)}".rstrip()
        )
    return "\n".join(lines)
