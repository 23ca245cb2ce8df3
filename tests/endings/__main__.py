"""Print a table: ending x (pool, version of Celery) -> milliseconds until the claim was settled."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import ROOT
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("5.5", "5.6", "5.7")
POOLS = ("prefork", "threads", "solo", "gevent")
#: Seconds of a worker's lease in these runs: what a killed worker's key may cost.
LEASE = 3
#: Seconds that one pool of one version may take.
TIMEOUT = 600


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.endings", description=__doc__)
    parser.add_argument("--versions", default=",".join(VERSIONS), help="of Celery; default: %(default)s")
    parser.add_argument("--pools", default=",".join(POOLS), help="default: %(default)s")
    parser.add_argument("--python", default=sys.executable, help="makes the venvs; default: this one")
    parser.add_argument("--cache", type=Path, help="where the venvs are kept; default: nowhere")
    parser.add_argument("--jobs", type=int, default=2, help="so many at once; default: %(default)s")
    parser.add_argument("endings", nargs="*", help="how their names begin; default: all")
    options = parser.parse_args(argv)
    versions, pools = options.versions.split(","), options.pools.split(",")
    with tempfile.TemporaryDirectory(prefix="dce-endings-") as temporary:
        cache = (options.cache or Path(temporary)).resolve()
        pythons = {version: make_venv(cache, version, options.python) for version in versions}
        columns = [(pool, version) for version in versions for pool in pools]
        with ThreadPoolExecutor(options.jobs) as executor:
            told = list(
                executor.map(lambda column: measure(column[0], pythons[column[1]], options.endings), columns)
            )
    print_table(columns, told)
    return (
        1 if any(cell.startswith("FAILED") for answers in told for cell in map(str, answers.values())) else 0
    )


def make_venv(cache: Path, version: str, python: str) -> Path:
    """Return the interpreter of a venv with this Celery, made if it is not there."""
    folder = cache / f"celery-{version}"
    made = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        say(f"making a venv with Celery {version}")
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        requirements = (f"celery[redis]~={version}.0", "django>=5.2", "django-redis>=5.4", "gevent>=24.2")
        command = [
            str(made),
            "-m",
            "pip",
            "--quiet",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            *requirements,
        ]
        subprocess.run(command, check=True, timeout=600)
        (folder / ".installed").touch()
    return made


def measure(pool: str, python: Path, endings: list[str]) -> dict[str, float | str]:
    """Play all endings on one pool of one version; ending -> ms, or why not."""
    with RedisServer().start() as server:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "TEST_"))
        }
        env = {
            **kept,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "CELERY_BROKER_URL": server.database(0),
            "CELERY_RESULT_BACKEND": server.database(1),
            "TEST_REDIS_URL": server.database(2),
            "TEST_LOCK_TIMEOUT": str(LEASE),
        }
        command = [str(python), "-m", "tests.endings.measure", pool, *endings]
        done = subprocess.run(
            command, cwd=ROOT, env=env, timeout=TIMEOUT, check=False, capture_output=True, text=True
        )
    if done.returncode != 0:
        return {"": f"FAILED {done.stderr[-1000:]}"}
    answers: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    say(f"{python.parent.parent.name} {pool}: {len(answers)} endings")
    return answers


def print_table(columns: list[tuple[str, str]], told: list[dict[str, float | str]]) -> None:
    print("\n".join(table(columns, told)))  # noqa: T201 - what it is for


def table(columns: list[tuple[str, str]], told: list[dict[str, float | str]]) -> Iterator[str]:
    endings = list(dict.fromkeys(ending for answers in told for ending in answers))
    reasons: dict[str, int] = {}
    yield "| ending | " + " | ".join(f"{pool} {version}" for pool, version in columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    for ending in endings:
        cells = []
        for answers in told:
            value = answers.get(ending, "not played")
            if isinstance(value, str):
                cells.append(f"[{reasons.setdefault(value, len(reasons) + 1)}]")
            else:
                cells.append(f"{value:.0f}" if value >= 10 else f"{value:.1f}")
        yield f"| {ending} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Milliseconds from the end of the task to the end of its claim; the lease is {LEASE} s."
    for reason, number in reasons.items():
        yield f"[{number}] {reason.removeprefix('— ')}"


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)  # noqa: T201 - the table alone goes to stdout


if __name__ == "__main__":
    sys.exit(main())
