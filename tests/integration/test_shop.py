"""The shop of the example project as its visitor sees it: a real Chromium on `make serve`."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import BrowserMissing, open_browser
from tests.conftest import unless_missing
from tests.processes import Process
from tests.servers import ServerMissing, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import RedisServer

pytestmark = pytest.mark.integration

#: Milliseconds that a line of the log may take to appear.
PATIENCE = 15_000
TASK, INVOCATION = "data-task", "data-invocation"


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a shop with a worker and a beat."""
    folder = tmp_path_factory.mktemp("shop")
    env = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "PORT": str(free_port()),
        "REDIS_URL": redis_server.url,
        "SHOP_DATA": str(folder),
        "SHOP_NAMESPACE": "shop-test",
        "PYTHONUNBUFFERED": "1",
    }
    serve = Process([sys.executable, "-m", "example_project.serve"], log=folder / "log", env=env)
    try:
        opened = re.compile(r"open (http://\S+)")
        wait_until(lambda: opened.search(serve.log()) or not serve.alive, 60, serve.log)
        found = opened.search(serve.log())
        assert found, serve.log()
        yield found[1]
    finally:
        serve.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    def opened() -> Any:
        try:
            return context.__enter__()
        except BrowserMissing as exc:
            raise ServerMissing(str(exc)) from exc

    context = open_browser()
    browser = unless_missing(opened)
    yield browser
    context.__exit__(None, None, None)


@pytest.fixture
def page(shop: str, browser: Any) -> Iterator[Any]:
    """The shop's page, with an empty log; a message of the page's own scripts is an error."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shop)
    page.get_by_role("button", name="Clear log").click()
    page.wait_for_function("document.querySelectorAll('.event, .mails li').length === 0")
    yield page
    page.close()
    assert errors == []


def seen(page: Any, kind: str, **data: str) -> list[Any]:
    """Wait for a line of the log of this kind, and return all of them."""
    which = "".join(f"[data-{name}='{value}']" for name, value in data.items())
    lines = page.locator(f".event{which}:has(.badge.{kind})")
    lines.first.wait_for()
    return list(lines.all())


def of(line: Any, attribute: str) -> str:
    return str(line.get_attribute(attribute))


def test_order_is_sent_after_the_commit_and_its_mail_arrives(page: Any) -> None:
    page.get_by_role("button", name="Order: ").first.click()
    [applied] = seen(page, "applied")
    assert "in a transaction" in applied.inner_text()
    [sent] = seen(page, "triggered")
    assert "in a transaction" not in sent.inner_text()
    assert of(sent, TASK) == of(applied, TASK)
    seen(page, "succeeded", task=of(sent, TASK))
    page.locator(".mails li").first.wait_for()
    assert page.locator(".mails li").count() == 1


def test_double_click_is_joined(page: Any) -> None:
    page.get_by_role("button", name="Double click").click()
    [joined] = seen(page, "unique")
    [sent] = seen(page, "triggered")
    assert of(joined, TASK) == of(sent, TASK)
    assert of(joined, INVOCATION) != of(sent, INVOCATION)
    seen(page, "succeeded", task=of(sent, TASK))
    assert len(seen(page, "started")) == 1
    page.locator(".mails li").first.wait_for()
    assert page.locator(".mails li").count() == 1


def test_declined_card_is_rolled_back(page: Any) -> None:
    page.get_by_role("button", name="Declined card").click()
    [line] = seen(page, "rolled_back")
    assert "stays WAITING" in line.inner_text()
    page.get_by_role("status").get_by_text("The card was declined").wait_for()
    # What comes after it in the same queue is done: it was not sent.
    page.get_by_role("button", name="Archive orders").click()
    seen(page, "succeeded")
    assert page.locator(".event:has(.badge.triggered)").count() == 1


def test_busy_mail_server_is_tried_again(page: Any) -> None:
    page.get_by_role("button", name="Busy mail server").click()
    [sent] = seen(page, "triggered")
    seen(page, "succeeded", task=of(sent, TASK))
    assert len(seen(page, "retried", task=of(sent, TASK))) == 2
    assert len(seen(page, "started", task=of(sent, TASK))) == 3
    page.locator(".mails").get_by_text("attempt 3").wait_for()


def test_second_report_is_ignored(page: Any) -> None:
    page.get_by_role("button", name="Rebuild report").click()
    [sent] = seen(page, "triggered")
    seen(page, "succeeded", task=of(sent, TASK))
    page.get_by_role("button", name="Rebuild report").click()
    [ignored] = seen(page, "ignored")
    assert of(ignored, INVOCATION) != of(sent, INVOCATION)
    page.get_by_text("Another is ignored for").wait_for()
    assert page.locator(".event:has(.badge.triggered)").count() == 1


def test_page_works_without_scripts(shop: str, browser: Any) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(shop)
    page.get_by_role("button", name="Order: ").first.click()
    assert page.url.startswith(shop)
    assert "placed" in page.locator("#toast").inner_text()
    page.close()
