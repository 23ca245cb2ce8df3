"""The scripted tour: what is asked of the shop, what is promised, and what really happens."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from example_project.client import Shop, TooLate
from example_project.processes import Child

NOTEBOOK = 1
#: Seconds by which a measured delay may miss what was promised: clocks are read in other places, machines are busy.
EARLY, LATE = 0.1, 3.0
#: Outcomes of an invocation, in the page's words.
WORDS = {"triggered": "sent", "unique": "joined", "ignored": "ignored"}


@dataclass
class Finding:
    """What happened in a step, and whether that is what was promised."""

    happened: str
    kept: bool
    invocation_id: str = ""
    task_id: str = ""
    seconds: float = field(default=0.0, init=False)


@dataclass(frozen=True)
class Step:
    """One step of the tour."""

    asked: str
    promised: str
    take: Callable[["Tour"], Finding]


class Tour:
    """Walks through the steps, one visitor's session long."""

    def __init__(self, shop: Shop, worker: Child) -> None:
        self.shop = shop
        self.worker = worker
        self.rolled_back: list[str] = []
        self.orders: dict[int, int] = {}

    def walk(self) -> Iterator[tuple[Step, Finding]]:
        """Take each step and tell what was found."""
        for step in STEPS:
            began = time.monotonic()
            try:
                finding = step.take(self)
            except (TooLate, OSError, LookupError, RuntimeError, ValueError) as exc:
                finding = Finding(f"{exc}", kept=False)
            finding.seconds = time.monotonic() - began
            yield step, finding

    def order(self, mails: int = 1, **form: object) -> tuple[int, list[dict[str, Any]]]:
        """Place an order that is to bring ``mails`` mails; give its number and its invocations."""
        answer = self.shop.post("/orders/", product=NOTEBOOK, **form)
        if answer["status"] != 200:
            raise RuntimeError(f"order refused with {answer['status']}")
        self.orders[answer["order"]] = mails
        return answer["order"], answer["invocations"]


STEPS: list[Step] = []


def step(asked: str, promised: str) -> Callable[[Callable[[Tour], Finding]], Callable[[Tour], Finding]]:
    """Add a step to the tour."""

    def add(take: Callable[[Tour], Finding]) -> Callable[[Tour], Finding]:
        STEPS.append(Step(asked, promised, take))
        return take

    return add


def count(number: int, noun: str) -> str:
    """Say how many."""
    return f"{number}\xa0{noun}" if number == 1 else f"{number}\xa0{noun}s"


@step("order placed inside a transaction", "mail task sent after the commit only, mail arrives")
def order_in_transaction(tour: Tour) -> Finding:
    """The message waits for the commit."""
    order, [call] = tour.order()
    invocation, task = call["invocation_id"], call["task_id"]
    applied = tour.shop.wait_for("applied", invocation_id=invocation)
    sent = tour.shop.wait_for("triggered", invocation_id=invocation)
    tour.shop.wait_for("succeeded", task_id=task)
    mails = len(tour.shop.mails(order))
    waited = sent["at"] - applied["at"]
    place = "inside" if sent["in_transaction"] else "outside"
    return Finding(
        f"sent {waited * 1000:.0f}\xa0ms after the call, {place} the transaction; {count(mails, 'mail')}",
        applied["in_transaction"] and not sent["in_transaction"] and waited > 0.2 and mails == 1,
        invocation,
        task,
    )


@step("double click on 'Order'", "second call joins the first: one task, one mail")
def double_click(tour: Tour) -> Finding:
    """Two invocations in a row for one order."""
    order, calls = tour.order(clicks=2)
    tasks = {call["task_id"] for call in calls}
    outcomes = [WORDS[call["outcome"]] for call in calls]
    tour.shop.wait_for("succeeded", task_id=calls[0]["task_id"])
    joined = tour.shop.find("unique", invocation_id=calls[1]["invocation_id"])
    mails = len(tour.shop.mails(order))
    return Finding(
        f"{', then '.join(outcomes)}; {count(len(tasks), 'task id')}, {count(mails, 'mail')}",
        outcomes == ["sent", "joined"] and len(tasks) == len(joined) == mails == 1,
        calls[1]["invocation_id"],
        calls[1]["task_id"],
    )


@step("order whose card is declined", "rolled back: nothing sent, result stays WAITING")
def declined_card(tour: Tour) -> Finding:
    """An exception inside the transaction; the next order's mail shows that the queue has passed on."""
    answer = tour.shop.post("/orders/", product=NOTEBOOK, card="declined")
    [call] = answer["invocations"]
    invocation = call["invocation_id"]
    tour.rolled_back.append(invocation)
    applied = tour.shop.wait_for("applied", invocation_id=invocation)
    tour.shop.wait_for("rolled_back", invocation_id=invocation)
    _, [following] = tour.order()
    tour.shop.wait_for("succeeded", task_id=following["task_id"])
    sent = tour.shop.find("triggered", invocation_id=invocation)
    started = tour.shop.find("started", task_id=applied["task_id"])
    return Finding(
        f"state {call['state']}; {len(sent)}\xa0sent, {len(started)}\xa0started; the next order went through",
        answer["status"] == 402 and call["state"] == "WAITING" and not sent and not started,
        invocation,
        applied["task_id"],
    )


@step("order with a busy mail server", "retried after 1\xa0s and 2\xa0s, then one mail")
def busy_mail_server(tour: Tour) -> Finding:
    """The first two attempts are refused."""
    order, [call] = tour.order(mail_server="busy")
    task = call["task_id"]
    tour.shop.wait_for("succeeded", task_id=task)
    starts = tour.shop.find("started", task_id=task)
    retries = tour.shop.find("retried", task_id=task)
    gaps = [start["at"] - retry["at"] for start, retry in zip(starts[1:], retries, strict=False)]
    mails = len(tour.shop.mails(order))
    on_time = len(gaps) == 2 and all(
        delay - EARLY <= gap <= delay + LATE for delay, gap in zip((1, 2), gaps, strict=True)
    )
    measured = " and ".join(f"{gap:.2f}\xa0s" for gap in gaps)
    return Finding(
        f"{count(len(starts), 'attempt')}, retried after {measured}; {count(mails, 'mail')}",
        on_time and len(starts) == 3 and mails == 1,
        call["invocation_id"],
        task,
    )


@step("sales report, then once more", "rebuilt; the second request is IGNORED")
def report_twice(tour: Tour) -> Finding:
    """The second request comes within the ignore window."""
    [first] = tour.shop.post("/report/")["invocations"]
    tour.shop.wait_for("succeeded", task_id=first["task_id"])
    [second] = tour.shop.post("/report/")["invocations"]
    tour.shop.wait_for("ignored", invocation_id=second["invocation_id"])
    runs = len(tour.shop.find("started", task="rebuild_report"))
    return Finding(
        f"first {WORDS[first['outcome']]}, second {second['state']}; {count(runs, 'run')}",
        first["outcome"] == "triggered" and second["state"] == "IGNORED" and runs == 1,
        second["invocation_id"],
        first["task_id"],
    )


@step("nightly command, now", "management command runs as a task, output in the worker's log")
def command(tour: Tour) -> Finding:
    """The command archives all orders so far."""
    [call] = tour.shop.post("/archive/")["invocations"]
    task = call["task_id"]
    tour.shop.wait_for("succeeded", task_id=task)
    output = f"orders archived: {len(tour.orders)}"
    tour.shop.wait_until(
        lambda: any(output in line for line in list(tour.worker.lines)), 5, f"no '{output}' in log"
    )
    return Finding(f"succeeded; log says '{output}'", True, call["invocation_id"], task)


@step("20 requests at once for one order's mail", "one run, one mail, all get one id")
def twenty_requests(tour: Tour) -> Finding:
    """Twenty threads, each with a request of its own."""
    order, [first] = tour.order(mails=2, mail_server="slow")
    tour.shop.wait_for("succeeded", task_id=first["task_id"])
    answers = tour.shop.post_together(20, f"/orders/{order}/confirmation/")
    calls = [call for answer in answers for call in answer["invocations"]]
    tasks = {call["task_id"] for call in calls}
    sent = [call for call in calls if call["outcome"] == "triggered"]
    joined = [call for call in calls if call["outcome"] == "unique"]
    for task in tasks:
        tour.shop.wait_for("succeeded", task_id=task)
    runs = sum(len(tour.shop.find("started", task_id=task)) for task in tasks)
    mails = len(tour.shop.mails(order)) - 1
    return Finding(
        f"{len(sent)}\xa0sent, {len(joined)}\xa0joined, {count(len(tasks), 'id')}; "
        f"{count(runs, 'run')}, {count(mails, 'mail')}",
        (len(sent), len(joined), len(tasks), runs, mails) == (1, 19, 1, 1, 1),
        sent[0]["invocation_id"] if sent else "",
        sent[0]["task_id"] if sent else "",
    )


@step("the books at the end", "each order has its mails, the declined one never ran, no failure")
def books(tour: Tour) -> Finding:
    """Nothing ran later, either."""
    tour.shop.refresh()
    mails = {order: len(tour.shop.mails(order)) for order in tour.orders}
    total = len(tour.shop.mails())
    late = [
        invocation for invocation in tour.rolled_back if tour.shop.find("triggered", invocation_id=invocation)
    ]
    failed = tour.shop.find("failed")
    return Finding(
        f"{count(total, 'mail')} for {count(len(mails), 'order')}, {len(late)} of the declined, "
        f"{count(len(failed), 'failure')}",
        mails == tour.orders and total == sum(mails.values()) and not late and not failed,
    )
