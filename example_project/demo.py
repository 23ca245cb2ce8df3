"""``python -m example_project.demo``: start everything, take the tour, print what was promised and what happened.

Ends with 0 only if every promise was kept, with 1 otherwise.
"""

import io
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

from example_project.client import Shop
from example_project.processes import Child, ProcessError, Processes
from example_project.redis_server import free_port
from example_project.stack import start_stack
from example_project.table import Table
from example_project.tour import STEPS, Finding, Tour

TITLES = ("#", "asked", "promised", "happened", "ids", "time", "")
WIDTHS = (1, 0, 0, 0, 9, 7, 4)
NARROW, WIDE = 80, 110


def say(text: str) -> None:
    """Tell what goes on, one line for each phase."""
    print(f"· {text}", flush=True)


def show_tour(shop: Shop, worker: Child) -> bool:
    """Take the tour, print each step as it ends, and tell whether all promises were kept."""
    columns = shutil.get_terminal_size((100, 24)).columns
    table = Table(TITLES, WIDTHS, min(max(columns, NARROW), WIDE))
    print(f"\n{table.head()}", flush=True)
    findings: list[Finding] = []
    for step, finding in Tour(shop, worker).walk():
        findings.append(finding)
        ids = f"i {finding.invocation_id[:7]}\nt {finding.task_id[:7]}" if finding.task_id else ""
        cells = (str(len(findings)), step.asked, step.promised, finding.happened, ids)
        print(table.row((*cells, f"{finding.seconds:.2f}\xa0s", "ok" if finding.kept else "FAIL")))
        print(table.rule(), flush=True)
    kept = sum(finding.kept for finding in findings)
    print("i: invocation id, t: task id (their first digits)")
    print(f"{kept} of {len(STEPS)} as promised")
    return kept == len(STEPS)


def remove_queue(namespace: str) -> None:
    """Leave no queue behind on a broker that isn't ours."""
    from example_project.celery import app

    with app.connection_for_write() as connection:
        queue = app.amqp.queues[namespace].bind(connection.default_channel)
        queue.declare()  # a channel deletes the bindings of the queues that it knows
        queue.delete()


def main() -> int:
    """Run the demo."""
    began = time.monotonic()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the table's rules, where the terminal knows only ASCII
    namespace = f"shop-{uuid.uuid4().hex[:8]}"
    try:
        with tempfile.TemporaryDirectory(prefix="paper-boat-") as data, Processes() as processes:
            stack = start_stack(processes, Path(data), namespace, free_port(), say)
            say(f"taking the tour at {stack.url} (ready after {time.monotonic() - began:.1f} s)")
            kept = show_tour(Shop(stack.url, processes.check), stack.worker)
            processes.check()
            if not kept:
                print(f"\n{stack.worker.tail()}")
            processes.forget(stack.worker)
            remove_queue(namespace)
    except (ProcessError, OSError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - began:.1f} s in all")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
