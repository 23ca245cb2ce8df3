"""A command that takes no less than it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

if TYPE_CHECKING:
    from argparse import ArgumentParser

#: What each run was called with, in this process.
runs: list[dict[str, Any]] = []


class Command(BaseCommand):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path")
        parser.add_argument("--until", required=True, type=int)
        kind = parser.add_mutually_exclusive_group(required=True)
        kind.add_argument("--fast", action="store_true")
        kind.add_argument("--slow", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        runs.append(options)
