"""A small browser for the tour: cookies, CSRF token, JSON, and the event log as it grows."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

POLL_SECONDS = 0.05
Event = dict[str, Any]


def open_url(url: str, timeout: float) -> Any:
    """Open a loopback address, past any proxy that the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout)


class TooLate(Exception):
    """What was waited for did not happen in time."""


class Shop:
    """The shop's site as a visitor sees it."""

    def __init__(self, url: str, check: Callable[[], None], timeout: float = 15.0) -> None:
        """Open the first page. ``check`` is called while waiting, and raises if there is no use in it."""
        self._url = url
        self._check = check
        self._timeout = timeout
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )
        self.events: list[Event] = []
        self._request("/")  # brings the CSRF cookie

    def _request(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310 - our own site
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def get(self, path: str) -> Any:
        """Get a JSON document."""
        return json.loads(self._request(path)[1])

    def post(self, path: str, **data: object) -> dict[str, Any]:
        """Send a form as the page does, and give the JSON answer with its ``status``."""
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken") or ""
        body = urllib.parse.urlencode(data).encode()
        headers = {"Accept": "application/json", "X-CSRFToken": token}
        status, answer = self._request(path, body, **headers)
        try:
            return {**json.loads(answer), "status": status}
        except ValueError:
            title = answer.decode(errors="replace").splitlines()[:2]
            raise RuntimeError(f"POST {path} was answered with {status}: {' '.join(title)[:200]}") from None

    def post_together(self, count: int, path: str, **data: object) -> list[dict[str, Any]]:
        """Send the same form from ``count`` threads at one moment."""
        barrier = threading.Barrier(count)
        answers: list[dict[str, Any]] = []

        def send() -> None:
            barrier.wait(self._timeout)
            answers.append(self.post(path, **data))

        threads = [threading.Thread(target=send) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def refresh(self) -> None:
        """Read what is new in the event log."""
        after = self.events[-1]["id"] if self.events else 0
        self.events += self.get(f"/log.json?after={after}")["events"]

    def find(self, kind: str, **fields: object) -> list[Event]:
        """Give the events of a kind whose fields have these values, oldest first."""
        wanted = {"kind": kind, **fields}.items()
        return [event for event in self.events if all(event[name] == value for name, value in wanted)]

    def wait_for(self, kind: str, seconds: float = 15.0, **fields: object) -> Event:
        """Wait for the first event of a kind with these fields. Raises :class:`TooLate` after ``seconds``."""
        self.wait_until(lambda: bool(self.find(kind, **fields)), seconds, f"no event '{kind}'")
        return self.find(kind, **fields)[0]

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Read the log until a condition holds. Raises :class:`TooLate` after ``seconds``."""
        deadline = time.monotonic() + seconds
        self.refresh()
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise TooLate(f"{what} within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
            self.refresh()

    def mails(self, order: int | None = None) -> list[dict[str, Any]]:
        """Give the mails that went out, those of one order if it is named."""
        mails = self.get("/mails.json")["mails"]
        return [mail for mail in mails if order is None or mail["order_id"] == order]
