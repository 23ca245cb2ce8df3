#!/usr/bin/env python
"""Django's command line for the example project."""

import os
import sys


def main() -> None:
    """Run a management command of the example project."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
