"""Measures how many tasks per second `reconcile --settle` settles, on both kinds of store.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/settling.py [TASKS]

Each ledger has one job for each row of the statement, bound to its task, in two budgets.
A guard admits the first job; the benchmark copies its rows.
The rates are per second of processor time of the client and the server together, and per second on the clock.
One task in a thousand was charged more than was reserved, so that it raises an alert.
"""

import csv
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the PostgreSQL server of the tests

from kling_pricing import Budget, BudgetGuard
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger.administration import prepare
from kling_pricing.reconcile import reconcile
from tests.servers import folder_for_servers, running

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
COST = 357_000
"""The charge of the job in quota."""
DEAR = 1000
"""One task in this number was charged more than was reserved."""
CLIP = {"model": "kling-v3", "prompt": "a paper boat", "duration": 5, "resolution": "1080p", "audio": True}
BUDGETS = [
    Budget(name="all", cap=Decimal(10**8), currency="USD", alerts=(Decimal("0.8"),)),
    Budget(name="each", match={"project": "*"}, cap=Decimal(10**8), currency="USD"),
]

NAME = {
    "sqlite": "lower(hex(randomblob(16)))",
    "postgresql": "md5(random()::text || n)",
}
SERIES = {
    "sqlite": (
        "(WITH RECURSIVE s (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s)"
    ),
    "postgresql": "generate_series(1, {last}) AS s (n)",
}


def grow(execute: Callable[[str], Any], columns: list[str], kind: str, tasks: int) -> None:
    """Copies the only reservation of a ledger until there are as many as tasks."""
    new = {"id": NAME[kind], "key": "'shot-' || n", "task_id": "'task-' || n"}
    values = ", ".join(new.get(column, column) for column in columns)
    execute(
        f"INSERT INTO reservation ({', '.join(columns)})"  # noqa: S608 (constants only)
        f" SELECT {values} FROM reservation CROSS JOIN {SERIES[kind].format(last=tasks - 1)}"
    )
    execute(
        "INSERT INTO reservation_line (reservation, bucket, held)"
        " SELECT reservation.id, bucket, line.held FROM reservation CROSS JOIN reservation_line AS line"
        " WHERE reservation.id <> line.reservation"
    )
    execute(f"UPDATE bucket SET held = held * {tasks}")  # noqa: S608 (a number)


def settled(ledger: str, folder: Path, tasks: int, kind: str) -> None:
    """Fills a ledger, settles it, and prints the rates."""
    now = [NOON]
    with BudgetGuard(ledger, BUDGETS if kind == "sqlite" else None, clock=lambda: now[0]) as guard:
        admission, _ = guard.admit_and_dispatch(CLIP, project="trailer", key="shot-0")
        guard.bind(admission, "task-0")
    if kind == "sqlite":
        with sqlite3.connect(folder / "spend.db") as file:
            columns = [row[1] for row in file.execute("PRAGMA table_info (reservation)")]
            grow(file.execute, columns, kind, tasks)
    else:
        with psycopg.connect(ledger, autocommit=True) as server:
            server.execute("SET search_path = kling_pricing")
            server.execute("UPDATE reservation SET dispatched_at = '2026-11-05 12:00:00+00'")
            names = server.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'reservation'"
                " AND is_identity = 'NO' ORDER BY ordinal_position"
            ).fetchall()
            grow(server.execute, [name for (name,) in names], kind, tasks)
            server.execute("ANALYZE")
    statement = folder / "november.csv"
    with statement.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("task_id", "model", "status", "created_at", "cost"))
        for number in range(tasks):
            cost = COST + 1000 * (number % DEAR == 0)
            rows.writerow((f"task-{number}", "kling-v3", "completed", int(NOON.timestamp()), cost))
    with reconcile(ledger, statement, provider="qingbo", since=SINCE, until=UNTIL) as result:
        result.remember()
        start, cpu = time.perf_counter(), processor_s(ledger)
        done = result.settle(also=["unexplained"])
        elapsed_s, used_s = time.perf_counter() - start, processor_s(ledger) - cpu
    assert (done.settled, done.refused) == (tasks, {}), done
    rates = f"{tasks / used_s:>10,.0f} {tasks / elapsed_s:>10,.0f}"
    print(f"{kind:<12} {tasks:>10,} {used_s:>12.1f} {rates}", flush=True)


def processor_s(ledger: str) -> float:
    """Returns the processor time that this process and the server's processes have used."""
    used = sum(os.times()[:2])
    if not ledger.startswith("sqlite"):
        with psycopg.connect(ledger) as server:
            used += _of_server(server.info.backend_pid) / os.sysconf("SC_CLK_TCK")
    return used


def _of_server(backend: int) -> int:
    """Returns the clock ticks of a server's processes, those that have ended included."""
    parent = int(_fields(backend)[1])
    ticks = sum(map(int, _fields(parent)[11:15]))
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            fields = _fields(int(folder.name))
            ticks += sum(map(int, fields[11:13])) if int(fields[1]) == parent else 0
    return ticks


def _fields(process: int) -> list[str]:
    """Returns the fields of a process's statistics after its name."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def main() -> None:
    """Settles a month on either store, and prints a table."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{'store':<12} {'tasks':>10} {'processor s':>12} {'per cpu s':>10} {'per s':>10}")
    with tempfile.TemporaryDirectory() as name:
        settled(f"sqlite:///{name}/spend.db", Path(name), tasks, "sqlite")
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        url = stack.enter_context(running(stack.enter_context(folder_for_servers()) / "benchmark")).url
        prepare(url, create=True)
        apply_budgets(url, BUDGETS)
        settled(url, Path(name), tasks, "postgresql")


if __name__ == "__main__":
    main()
