"""`python -m tests.release`: check dist/; the wheel in an empty virtual environment with Celery and Django only."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXERCISE = Path(__file__).with_name("exercise.py")
#: Files of the repository that are of no use without it.
LEFT_OUT = (".github/", ".gitignore")
#: What setuptools writes into an sdist.
METADATA = ("PKG-INFO", "setup.cfg", "django_celery_extensions.egg-info/")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a check is watched


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Return what *command* prints; what fails is shown and ends the check."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO_"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def check_sdist(sdist: Path) -> None:
    """The sdist holds what git knows, and nothing that was made here."""
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    held = {name for name in held if not name.startswith(METADATA)}
    if not (ROOT / ".git").exists():
        say(f"sdist: {len(held)} files; there is no repository to compare them with")
        return
    known = set(run("git", "ls-files", cwd=ROOT).splitlines())
    expected = {name for name in known if not name.startswith(LEFT_OUT)}
    if held != expected:
        sys.exit(f"sdist: missing {sorted(expected - held)}, too many {sorted(held - expected)}")
    say(f"sdist: {len(held)} files, those of the repository and no other")


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs without any extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]


def check_wheel(wheel: Path, folder: Path) -> None:
    """The wheel brings itself, Celery and Django, and works with no more than these."""
    needed = requirements(wheel)
    if {line.split("<")[0].split(">")[0] for line in needed} != {"celery", "django"}:
        sys.exit(f"wheel: it needs {needed}")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", *needed, cwd=folder)
    before = set(run(python, "-m", "pip", "list", "--format=freeze", cwd=folder).splitlines())
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    after = set(run(python, "-m", "pip", "list", "--format=freeze", cwd=folder).splitlines())
    brought = after - before
    if len(brought) != 1 or before - after:
        sys.exit(f"wheel: beside Celery and Django it brings {sorted(brought)}")
    say(f"wheel: needs {', '.join(needed)}; brings {brought.pop()} and nothing else")
    # `-I`: nothing of the folder, of the user, or of this clone is imported.
    for line in run(python, "-I", EXERCISE, cwd=folder).splitlines():
        say(f"  {line}")
    programs = folder / "venv/bin"
    run(programs / "celeryautoreload", "--help", cwd=folder)
    say("  celeryautoreload --help")


def main() -> int:
    (sdist,) = (ROOT / "dist").glob("*.tar.gz")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    check_sdist(sdist)
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        check_wheel(wheel, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
