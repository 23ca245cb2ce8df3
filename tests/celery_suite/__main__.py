"""Run Celery's own tests with a plain Task and with DjangoTask; fail where only ours fails."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.celery_suite.suite import Outcome, Suite, installed_version
from tests.servers import HOST, RedisServer

UNIT = (
    "t/unit/tasks",
    "t/unit/app/test_app.py",
    "t/unit/worker/test_request.py",
    "t/unit/worker/test_strategy.py",
)
INTEGRATION = ("t/integration/test_canvas.py",)
#: Fewer tests than this have not been Celery's suite.
UNIT_AT_LEAST, INTEGRATION_AT_LEAST = 1200, 200


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("--version", default=None, help="of Celery; default: the one installed here")
    parser.add_argument("--cache", type=Path, help="where the sdist and the venv are kept; default: nowhere")
    parser.add_argument(
        "--integration", action="store_true", help="t/integration/test_canvas.py too (30 minutes)"
    )
    options = parser.parse_args(argv)
    version = options.version or installed_version()
    with tempfile.TemporaryDirectory(prefix="dce-celery-suite-") as temporary:
        suite = Suite(version, (options.cache or Path(temporary)).resolve())
        say(f"Celery {version}: its sdist and a venv for its tests, in {suite.cache}")
        suite.prepare()
        unit = [path for path in (*UNIT, "t/unit/test_canvas.py") if (suite.source / path).exists()]
        good = compare(suite, unit, at_least=UNIT_AT_LEAST)
        if options.integration:
            good = on_redis(suite) and good
    return 0 if good else 1


def compare(suite: Suite, paths: list[str], *, at_least: int, env: dict[str, str] | None = None) -> bool:
    say(f"{' '.join(paths)}")
    plain = suite.run(paths, ours=False, env=env, timeout=2400)
    say(f"  Task:        {plain}")
    ours = suite.run(paths, ours=True, env=env, timeout=2400)
    say(f"  DjangoTask:  {ours}")
    return judge(plain, ours, at_least)


def judge(plain: Outcome, ours: Outcome, at_least: int) -> bool:
    """Tell whether ours is as good as plain, and what is not."""
    for outcome in (plain, ours):
        if outcome.output:
            say(outcome.output)
    for name in sorted(plain.failed & ours.failed):
        say(f"  fails with both: {name}")
    for name in sorted(plain.failed & ours.passed):
        say(f"  fails with Task only: {name}")
    # Not only failures: what passes with Task has to pass, not to be skipped or to go missing.
    worse = sorted((plain.passed - ours.passed) | (ours.failed - plain.failed))
    for name in worse:
        say(f"  FAILS WITH DjangoTask ONLY: {name}")
    enough = len(ours.passed) >= at_least
    if not enough:
        say(f"  FAILED: {len(ours.passed)} tests are not the whole suite (at least {at_least})")
    return enough and not worse


def on_redis(suite: Suite) -> bool:
    """Run Celery's canvas tests with a worker, on a Redis of our own."""
    with RedisServer().start() as server:
        env = {
            "TEST_BROKER": server.database(0),
            "TEST_BACKEND": server.database(1),
            # The tests look at lists that their tasks write here.
            "REDIS_HOST": HOST,
            "REDIS_PORT": str(server.port),
        }
        return compare(suite, list(INTEGRATION), at_least=INTEGRATION_AT_LEAST, env=env)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    sys.exit(main())
