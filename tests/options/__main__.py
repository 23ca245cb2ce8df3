"""`python -m tests.options` writes docs/options-and-doors.md: what of the table is tested, and why the rest is not."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options-and-doors.md"

HEAD = """\
# Options and doors

<!-- Written by `python -m tests.options`; a test compares. -->

Every option of a call, through every way to make one, for a plain task and for a unique one. Each ✓ is a test that
sends to a real RabbitMQ and looks at the message that lies in the queue then; a unique one must also hold its claim, and
must have lost it where the call failed. `make test` runs them all:
`tests/integration/test_options.py::test_option[OPTION-DOOR]`.

## Doors
"""


def render() -> str:
    """Return the page."""
    from tests.options.doors import DOORS
    from tests.options.options import OPTIONS

    reasons: dict[str, str] = {}
    lines = [HEAD]
    lines += [f"{number}. `{door.name}`: {door.means}" for number, door in enumerate(DOORS, 1)]
    lines += ["", "## Options", ""]
    lines += ["| option | as given | seen | " + " | ".join(str(n + 1) for n in range(len(DOORS))) + " |"]
    lines += ["|---" * (len(DOORS) + 3) + "|"]
    for row in OPTIONS:
        cells = []
        for door in DOORS:
            reason = row.reason(door)
            if reason is not None:
                reasons.setdefault(reason, chr(ord("a") + len(reasons)))
            cells.append("✓" if reason is None else reasons[reason])
        lines.append(f"| {row.name} | `{row.given}` | {row.how} | " + " | ".join(cells) + " |")
    lines += ["", "## Left out", "", *(f"- {letter}: {reason}" for reason, letter in reasons.items()), ""]
    return "\n".join(lines)


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
