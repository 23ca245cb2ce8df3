"""A headless Chromium: the one of the system, for the shop's test and the screenshots."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


class BrowserMissing(Exception):
    """There is no Chromium on PATH."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Give a Playwright ``Browser``. Raises ``BrowserMissing``."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise BrowserMissing(f"none of {', '.join(NAMES)} is on PATH (Debian package: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
