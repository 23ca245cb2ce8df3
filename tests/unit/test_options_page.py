"""docs/options-and-doors.md is what `python -m tests.options` writes."""

from __future__ import annotations

from tests.options.__main__ import PAGE, render


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tests.options"
