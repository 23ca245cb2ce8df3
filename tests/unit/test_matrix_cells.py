"""Which cells the matrix plays: all pairs, and none that can't be."""

from __future__ import annotations

import configparser
import itertools
import re

import pytest

from tests.matrix.cells import (
    DIMENSIONS,
    INSTALLED,
    LOWEST,
    NEWEST,
    OLDEST,
    VERSIONS,
    Cell,
    all_pairs,
    environments,
    impossible,
    lowest,
    place_corners,
    version_corners,
)
from tests.processes import ROOT


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return all_pairs()


def pairs(cell: Cell) -> set[frozenset[tuple[str, str]]]:
    return set(map(frozenset, itertools.combinations(cell.values().items(), 2)))


def test_every_pair_that_can_be_is_in_a_cell(cells: list[Cell]) -> None:
    every = {
        frozenset([(first, one), (second, other)])
        for first, second in itertools.combinations(DIMENSIONS, 2)
        for one in DIMENSIONS[first]
        for other in DIMENSIONS[second]
    }
    missing = every - set().union(*map(pairs, cells))
    assert missing == {pair for pair in every if impossible(dict(pair))}
    assert len(missing) == 2 * 2 + 3  # Django 6 on old Pythons, RPC on brokers that aren't AMQP


def test_no_cell_can_not_be(cells: list[Cell]) -> None:
    for cell in [*cells, *lowest(), *version_corners()]:
        assert impossible(cell.values()) is None
        assert cell.django == "5.2" or cell.python in ("3.12", "3.13")
        assert cell.backend != "rpc" or cell.broker.startswith("rabbitmq")


def test_every_combination_of_versions_is_there(cells: list[Cell]) -> None:
    every = {
        versions
        for versions in itertools.product(*(DIMENSIONS[name] for name in VERSIONS))
        if impossible(dict(zip(VERSIONS, versions, strict=True))) is None
    }
    assert {(cell.python, cell.django, cell.celery) for cell in cells} == every


def test_cells_are_few_and_the_same_each_time(cells: list[Cell]) -> None:
    assert cells == all_pairs()
    assert len(set(cells)) == len(cells) < 60


def test_tox_has_the_same_environments(cells: list[Cell]) -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    names = {name for line in tox["tox"]["env_list"].split() for name in expanded(line)}
    assert names == {"lint", *environments([*cells, *lowest()])}


def expanded(name: str) -> list[str]:
    """`a{1,2}-b{3,4}` -> a1-b3, a1-b4 …"""
    parts = re.split(r"\{(.+?)\}", name)
    choices = [part.split(",") if number % 2 else [part] for number, part in enumerate(parts)]
    return ["".join(words) for words in itertools.product(*choices)]


def test_lowest_versions_are_those_of_pyproject() -> None:
    allowed = dict(re.findall(r'"([a-z-]+)>=([\d.]+)', project_tables()))
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    pinned = dict(
        re.findall(r"^([a-z-]+)(?:\[.*\])?==([\d.]+)$", tox["testenv:lowest"]["deps"], re.MULTILINE)
    )
    assert pinned == allowed
    assert set(pinned) == {"celery", "django", "django-redis", "kazoo", "redis"}


def project_tables() -> str:
    """The part of pyproject.toml that says what the package needs."""
    return (
        (ROOT / "pyproject.toml")
        .read_text()
        .partition("dependencies = [")[2]
        .partition("[project.scripts]")[0]
    )


def test_corners_hold_the_ends_and_every_broker() -> None:
    corners = version_corners()
    for ends in (OLDEST, NEWEST):
        assert any({name: cell.values()[name] for name in VERSIONS} == ends for cell in corners)
    assert {LOWEST, "py311-django52-celery57"} <= set(environments(corners))
    places = place_corners()
    assert {cell.broker for cell in places} == set(DIMENSIONS["broker"])
    assert {cell.backend for cell in places} == set(DIMENSIONS["backend"])
    assert environments(places) == [INSTALLED]
