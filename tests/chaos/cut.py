"""A short cut of a chaos run, for the tests: started as a program of its own, and its report read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.program import VOID
from tests.processes import ROOT, tied_to_us

#: How often a cut is made whose violations prove nothing, because the clock was set meanwhile.
CUTS = 3


def run_cut(module: str, *arguments: str, timeout: float = 240) -> str:
    """Run a chaos module and return its report; fails where it found a violation, or did not end in time.

    The history of a run that failed is kept: what breaks a rule once in twenty runs is read, not run again.
    """
    for _ in range(CUTS):
        code, report, kept = _run(module, *arguments, timeout=timeout)
        if code != VOID:
            break
        print(f"made again: {report}")  # noqa: T201
    assert code == 0, f"{report}\nits history: {kept}"
    assert "violations: 0" in report
    shutil.rmtree(kept.parent)
    return report


def _run(module: str, *arguments: str, timeout: float) -> tuple[int, str, Path]:
    """Run it once; returns its exit code, its report, and the file with its history."""
    kept = Path(tempfile.mkdtemp(prefix="dce-cut-")) / "history.jsonl"
    # Measuring coverage there would be one more nemesis, and its processes are killed anyway.
    foreign = ("CELERY_", "TEST_", "COV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    chaos = subprocess.Popen(
        tied_to_us([sys.executable, "-m", module, *arguments, "--history", str(kept)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=env,
        text=True,
        start_new_session=True,
    )
    try:
        report, _ = chaos.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as exc:
        what = f"{module} is not over after {timeout} s; what it wrote down is in {kept.parent.parent}/dce-*chaos-*"
        raise AssertionError(what) from exc
    finally:
        if chaos.poll() is None:
            os.killpg(chaos.pid, signal.SIGKILL)
            chaos.wait()
    return chaos.returncode, report, kept


def count(name: str, report: str) -> int:
    """Return a count of a report, 0 where it is not there."""
    found = re.search(rf"^  {re.escape(name)} +(\d+)$", report, re.MULTILINE)
    return int(found[1]) if found else 0
