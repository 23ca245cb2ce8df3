"""README.md and docs/ say what the code says: examples run, references are complete, names and links exist."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import _state
from django.db import transaction
from django.test import RequestFactory

from django_celery_extensions import checks, locks, production_checks
from django_celery_extensions.config import NAMES, UNSET, Settings
from django_celery_extensions.options import CALL_OPTIONS, TASK_OPTIONS
from django_celery_extensions.task import DjangoTask
from tests.project.celery import app
from tests.settings import redis_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

    from tests.servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
    ]
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A heading of a reference, and the line under it.
ENTRY = re.compile(r"^#{2,3} `(\w+)`\n\nDefault: `?(.+?)`?(?:\. Per call: (yes|no)\.)?$", re.MULTILINE)

#: What Django 6.1 says of a project that has not set MAILERS.
pytestmark = pytest.mark.filterwarnings("ignore:.*default mailer")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def python_blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def tasks_of_the_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page declares is gone with the test."""
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    before = set(app.tasks)
    yield
    for name in set(app.tasks) - before:
        del app.tasks[name]


@every_page
def test_python_blocks_compile(page: Path) -> None:
    for number, block in enumerate(python_blocks(page), 1):
        compile(block, f"{page.name}, block {number}", "exec")


#: Pages whose blocks are run from top to bottom, each by itself.
RUN = [
    page
    for page in PAGES
    if page.parent.name == "docs"
    and python_blocks(page)
    and page.stem
    not in {
        "tutorial",  # walked: tests/integration/test_tutorial.py
        "index",  # a file of a project: below
    }
]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
@pytest.mark.django_db(transaction=True)
def test_page_runs_from_top_to_bottom(
    page: Path, tasks_of_the_page: None, store_server: RedisServer, settings: SettingsWrapper
) -> None:
    settings.CACHES = {"default": redis_cache(store_server.url)}
    namespace: dict[str, Any] = {"__name__": page.stem.replace("-", "_"), **HELD_OUT.get(page.stem, {})}
    for number, block in enumerate(python_blocks(page), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)  # noqa: S102 - our own page
    AFTERWARDS.get(page.stem, lambda _: None)(namespace)


def locks_do_what_the_page_says(page: dict[str, Any]) -> None:
    assert page["rebuild_index"].apply(("one",)).get() == "rebuilt one"
    assert page["patient"].apply(("one",)).get() is True
    assert page["close_the_books"](2026) == 2026
    assert page["fetch"]("/") is True
    page["who_is_at_it"]()
    with locks.lock("books", 2026):
        page["free_it_by_force"]()
        assert page["close_the_books"](2026) == 2026


def semaphore_does_what_the_page_says(page: dict[str, Any]) -> None:
    assert page["call_their_api"].apply(("/",)).get() is True


def mutex_does_what_the_page_says(page: dict[str, Any]) -> None:
    assert page["deploy"].apply(("one", "1.2")).get() == "1.2 on one"
    assert page["refresh"].apply(("ada",)).get() == "ada"


def feeds_do_what_the_page_says(page: dict[str, Any]) -> None:
    for name in ("import_feed", "import_feed_later", "import_feed_once"):
        assert page[name].apply(("https://example.com/rss",)).get() == "https://example.com/rss"
    with locks.lock(page["import_feed"].name, "https://example.com/rss"):
        assert page["import_feed"].apply(("https://example.com/rss",)).get() is None
        assert page["import_feed"].apply(("https://example.com/atom",)).get() == "https://example.com/atom"


def holders_are_listed(page: dict[str, Any]) -> None:
    page["who_is_at_it"]()
    sender = f"{page['__name__']}.rebuild_index"
    assert page["calls"][sender, "sent"] == 1


class Feed:
    """What the page imports."""

    def __init__(self, url: str) -> None:
        self.url = url


#: What a page takes for given.
HELD_OUT: dict[str, dict[str, Any]] = {
    "importing-feeds": {"Feed": SimpleNamespace(objects=SimpleNamespace(import_feed=Feed))},
}
#: What its code does when it is called.
AFTERWARDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "locks": locks_do_what_the_page_says,
    "semaphore": semaphore_does_what_the_page_says,
    "mutex": mutex_does_what_the_page_says,
    "importing-feeds": feeds_do_what_the_page_says,
    "monitor-and-unstick": holders_are_listed,
}


@pytest.mark.django_db(transaction=True)
def test_readme_example_runs_as_pasted(
    tasks_of_the_page: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailoutbox: list[Any]
) -> None:
    for block in python_blocks(ROOT / "README.md"):
        if block.startswith("# accounts/"):
            path = tmp_path / block.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("accounts", "accounts.tasks", "accounts.views"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    views = importlib.import_module("accounts.views")
    form = {"name": "ada", "email": "ada@example.com"}

    with transaction.atomic():
        response = views.sign_up(RequestFactory().post("/", form))
        assert app.AsyncResult(ast.literal_eval(response.content.decode())["task_id"])
        assert mailoutbox == []
    assert [(mail.subject, mail.to) for mail in mailoutbox] == [("Welcome", ["ada@example.com"])]

    with transaction.atomic():
        views.sign_up(RequestFactory().post("/", {**form, "name": "bob"}))
        transaction.set_rollback(True)
    assert len(mailoutbox) == 1
    assert views.send_welcome.max_retries == 3


def test_settings_of_the_readme_make_a_unique_task(
    tasks_of_the_page: None, store_server: RedisServer, settings: SettingsWrapper
) -> None:
    (block,) = (block for block in python_blocks(ROOT / "README.md") if "CACHES" in block)
    namespace: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), namespace)  # noqa: S102 - our own page
    assert set(namespace["INSTALLED_APPS"]) <= set(settings.INSTALLED_APPS)
    cache = namespace["CACHES"]["default"]
    assert cache.pop("LOCATION").startswith("redis://")
    settings.CACHES = {"default": {**cache, "LOCATION": store_server.url}}

    @app.task(unique=True, ignore_task_after_success=True, ignore_task_timedelta=60)
    def once(number: int) -> int:
        return number

    assert [once.apply((7,)).state, once.apply((7,)).state] == ["SUCCESS", "IGNORED"]


def test_celery_file_of_the_index_makes_django_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    (block,) = python_blocks(ROOT / "docs/index.md")
    namespace: dict[str, Any] = {"__name__": "myproject.celery"}
    try:
        exec(compile(block, "index.md", "exec"), namespace)  # noqa: S102 - our own page
        assert issubclass(namespace["app"].Task, DjangoTask)
        assert namespace["app"].main == "myproject"
        namespace["app"].close()  # else it is one of this process's apps
    finally:
        app.set_current()


def test_settings_page_has_every_setting_with_its_default() -> None:
    documented = {name: default for name, default, _ in ENTRY.findall(text("docs/settings.md"))}
    assert set(documented) == set(NAMES)
    for name in NAMES:
        default = vars(Settings)[name].default
        said = UNSET if documented[name] == "unset" else ast.literal_eval(documented[name])
        assert said == default, name


def test_options_page_has_every_option_with_its_default() -> None:
    entries = {name: (default, call) for name, default, call in ENTRY.findall(text("docs/options.md"))}
    assert set(entries) == set(TASK_OPTIONS)
    for name, (default, call) in entries.items():
        real = getattr(DjangoTask, name)
        assert default == (real.__name__ if callable(real) else repr(real).replace("'", '"')), name
        assert (call == "yes") == (name in CALL_OPTIONS or name == "queue"), name


def test_checks_page_has_every_check() -> None:
    sources = [Path(module.__file__).read_text() for module in (checks, production_checks)]
    made = set(re.findall(r"django_celery_extensions\.[EWI]\d+", "".join(sources)))
    assert made == set(re.findall(r"^\| `(\S+)` \|", text("docs/checks.md"), re.MULTILINE))


def test_guarantees_name_tests_that_exist() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", text("docs/guarantees.md"))
    assert named
    for path, test in named:
        tree = ast.parse(text(path))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{path}::{test}"
        )


def test_every_guarantee_names_a_test() -> None:
    guarantees = re.split(r"^\*\*", text("docs/guarantees.md"), flags=re.MULTILINE)[1:]
    assert [textwrap.shorten(each, 60) for each in guarantees if "Held by:" not in each] == []


@every_page
def test_local_links_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), f"{page.name}: {target}"
        if not anchor:
            continue
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page.name}: {target}#{anchor}"
