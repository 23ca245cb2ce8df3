"""`python -m tests.screenshots`: pictures of the shop and of the demo's table, for README and docs."""

import html
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from example_project.processes import ROOT, ProcessError, Processes
from example_project.redis_server import free_port
from example_project.stack import start_stack
from tests.browser import BrowserMissing, open_browser

PICTURES = ROOT / "docs" / "pictures"
SHOP_SIZE = {"width": 1280, "height": 1180}
TABLE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #16181d; color: #e6e6e6; width: max-content }}
pre {{ margin: 0; padding: 20px 24px; font: 14px/1.35 "DejaVu Sans Mono", monospace }}
</style><pre>{text}</pre>"""


def say(text: str) -> None:
    """Tell what goes on."""
    print(f"· {text}", flush=True)  # noqa: T201 - a run is watched


def visit(page: Any) -> None:
    """Do what a curious visitor does, and wait until it is over."""
    for button in ("Double click", "Declined card", "Busy mail server", "Rebuild report"):
        page.get_by_role("button", name=button).click()
        time.sleep(0.5)  # so that the log reads in this order
    page.locator(".mails").get_by_text("attempt 3").wait_for(timeout=30_000)
    page.get_by_role("button", name="Rebuild report").click()
    page.locator(".badge.ignored").wait_for()
    page.wait_for_function("document.getElementById('toast').textContent === ''", timeout=10_000)
    time.sleep(0.5)  # and faded out


def picture_shop(browser: Any, url: str) -> None:
    """Take the shop's page by day and by night."""
    page = browser.new_page(viewport=SHOP_SIZE, color_scheme="light")
    page.goto(url)
    visit(page)
    page.screenshot(path=PICTURES / "shop.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=PICTURES / "shop-dark.png")


def picture_demo(browser: Any) -> None:
    """Run the demo and take what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "example_project.demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    table = done.stdout[done.stdout.index("#  asked") :]
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.set_content(TABLE.format(text=html.escape(table.rstrip())))
    page.locator("pre").screenshot(path=PICTURES / "demo.png")


def main() -> int:
    """Make every picture anew."""
    PICTURES.mkdir(exist_ok=True)
    try:
        with open_browser() as browser:
            say("running the demo")
            picture_demo(browser)
            with tempfile.TemporaryDirectory(prefix="paper-boat-") as data, Processes() as processes:
                stack = start_stack(processes, Path(data), "screenshots", free_port(), say)
                say(f"visiting {stack.url}")
                picture_shop(browser, stack.url)
    except (BrowserMissing, ProcessError, subprocess.CalledProcessError) as exc:
        print(f"screenshots: {exc}", file=sys.stderr)  # noqa: T201 - likewise
        return 1
    say("pictures are in docs/pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
