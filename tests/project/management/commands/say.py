"""A command with everything a command can have: positional arguments, options of each kind, output, errors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

if TYPE_CHECKING:
    from argparse import ArgumentParser

#: What each run was called with, in this process.
runs: list[dict[str, Any]] = []


class Command(BaseCommand):
    help = "Say words."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*")
        parser.add_argument("--loud", action="store_true")
        parser.add_argument("--repeat-count", type=int, default=1)
        parser.add_argument("--colour", choices=["red", "green"], dest="paint")
        parser.add_argument("--end", default="good")

    def handle(self, *args: Any, **options: Any) -> str | None:
        runs.append(options)
        self.stdout.write("one line\ntwo ", ending="")
        self.stdout.write("lines")
        self.stderr.write("a warning")
        self.stdout.write("no newline", ending="")
        end = options["end"]
        if end == "error":
            raise CommandError("it went wrong")
        if end == "value error":
            raise ValueError("of the code")
        if end.startswith("exit"):
            sys.exit({"exit": None, "exit 0": 0, "exit 3": 3, "exit text": "text"}[end])
        return "returned"
