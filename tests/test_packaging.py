"""What `pip install` brings: every file the package needs, its version and its entry point."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import django_celery_extensions

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "django_celery_extensions"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the source, so that no file of an earlier build comes along."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    built = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*command, "--wheel-dir", str(built), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def read_only(wheel: zipfile.ZipFile, ending: str) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name).decode()


def test_wheel_carries_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    in_source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert f"{PACKAGE}/py.typed" in in_wheel
    assert any(name.endswith(".lua") for name in in_wheel)
    assert in_wheel == in_source


def test_version_has_one_source(wheel: zipfile.ZipFile) -> None:
    metadata = HeaderParser().parsestr(read_only(wheel, ".dist-info/METADATA"))
    assert metadata["Name"] == "django-celery-extensions"
    assert metadata["Version"] == django_celery_extensions.__version__


def test_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    metadata = HeaderParser().parsestr(read_only(wheel, ".dist-info/METADATA"))
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra", [])) == {"redis", "zookeeper"}
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split("<")[0].split(">")[0] for line in required) == ["celery", "django"]


def test_beat_scheduler_is_an_entry_point(wheel: zipfile.ZipFile) -> None:
    points = configparser.ConfigParser()
    points.optionxform = str
    points.read_string(read_only(wheel, ".dist-info/entry_points.txt"))
    assert dict(points["celery.beat_schedulers"]) == {
        "LockedPersistentScheduler": "django_celery_extensions.beat:LockedPersistentScheduler"
    }
