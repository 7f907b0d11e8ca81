"""Measures `verify` and `verify --since-last` on large ledgers.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/verifying.py [SQLITE] [POSTGRES]

The two numbers are the reservations in the two ledgers: 2,000,000 and 200,000 by default; 0 skips a store.
A guard makes a few reservations. SQL statements then copy their rows, each copy with an id, a key, a task and a
seal of its own. Each verification runs in its own process, which reports the time of all processes that it
starts, and the peak memory of the largest.
"""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the PostgreSQL server of the tests

from kling_pricing import Budget, BudgetGuard
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger import dialects, steps
from kling_pricing.ledger.administration import prepare
from kling_pricing.ledger.sqlite.seals import seal
from kling_pricing.ledger.terms import SEALED_COLUMNS
from tests.servers import folder_for_servers, running

BUDGETS = [Budget(name="all", cap=Decimal(10**8), currency="USD")]
PAYLOAD = {"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "1080p", "audio": True}
TEMPLATES = 20
"""The number of reservations whose rows are copied: one released, one bound, and the others settled."""

NEWER = 300
"""The number of reservations that are made between the verifications."""

COPIES = (
    """
    CREATE TEMPORARY TABLE copy AS
    SELECT number, {new_id} AS id, source.id AS source, source.task_id || '-' || number AS task
    FROM {numbers} JOIN (
      SELECT id, task_id, row_number() OVER (ORDER BY id) - 1 AS place FROM reservation
    ) AS source ON source.place = number % {templates}
    """,
    """
    INSERT INTO reservation ({columns}, seal)
    SELECT {columns}, {sealed} FROM (
      SELECT {renamed} FROM copy JOIN reservation ON reservation.id = copy.source ORDER BY copy.number
    ) AS kept
    """,
    """
    INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
    SELECT copy.id, bucket, held, spent, rate
    FROM copy JOIN reservation_line AS line ON line.reservation = copy.source ORDER BY copy.id
    """,
    """
    INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)
    SELECT at, kind, copy.id, bucket, held_delta, spent_delta,
      CASE kind WHEN 'bind' THEN copy.task ELSE detail END
    FROM copy JOIN journal ON journal.reservation = copy.source ORDER BY copy.number, seq
    """,
    """
    UPDATE bucket SET held = (SELECT sum(held_delta) FROM journal),
      spent = (SELECT sum(spent_delta) FROM journal)
    """,
)
"""The statements that fill a ledger with copies."""


def jobs(url: str, count: int, name: str) -> None:
    """Sends jobs, and settles all but two of them."""
    with BudgetGuard(url) as guard:
        for place in range(count):
            admission = guard.admit(PAYLOAD, project="trailer", labels={"user": "li"})
            guard.dispatch(admission)
            guard.bind(admission, f"{name}-{place}")
            if place == 0:
                guard.observe({"task_id": f"{name}-{place}", "status": "failed", "cost": 0}, provider="qingbo")
            elif place > 1:
                guard.settle(admission, "0.7")


def statements(columns: list[str], **parts: str) -> list[str]:
    """Returns the statements for a store."""
    fresh = {"id": "copy.id", "key": "copy.id", "task_id": "copy.task"}
    copied = [column for column in columns if column not in {"seal", "seq"}]
    renamed = ", ".join(f"{fresh.get(column, f'reservation.{column}')} AS {column}" for column in copied)
    return [
        text.format(templates=TEMPLATES, columns=", ".join(copied), renamed=renamed, **parts) for text in COPIES
    ]


def fill_file(path: Path, reservations: int) -> str:
    """Creates a large ledger in a file, and returns its URL."""
    url = f"sqlite:///{path}"
    BudgetGuard(url, BUDGETS).close()
    jobs(url, TEMPLATES, "task")
    database = sqlite3.connect(path, isolation_level=None)
    database.create_function("sealed", -1, seal, deterministic=True)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -500000")
    columns = [name for _, name, *_ in database.execute("PRAGMA table_info(reservation)")]
    numbers = f"""(
      WITH RECURSIVE counted (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM counted
        WHERE number + 1 < {reservations - TEMPLATES}) SELECT number FROM counted
    )"""  # noqa: S608 (a number)
    database.execute("BEGIN")
    for statement in statements(
        columns,
        numbers=numbers,
        new_id="lower(hex(randomblob(16)))",
        sealed=f"sealed({', '.join(SEALED_COLUMNS)})",
    ):
        database.execute(statement)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return url


def fill_database(url: str, reservations: int) -> str:
    """Creates a large ledger in a database, and returns its URL."""
    prepare(url, create=True)
    apply_budgets(url, BUDGETS)
    jobs(url, TEMPLATES, "task")
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = kling_pricing, public")
        rows = connection.execute("SELECT * FROM reservation LIMIT 0")
        for statement in statements(
            [column.name for column in rows.description or ()],
            numbers=f"generate_series(0, {reservations - TEMPLATES - 1}) AS number",
            new_id="replace(gen_random_uuid()::text, '-', '')",
            sealed="'to be sealed'",
        ):
            connection.execute(statement.encode())
        connection.execute("SET timezone = 'UTC'")
        connection.execute("UPDATE reservation SET seal = sealed(reservation.*) WHERE seal = 'to be sealed'")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return url


def verify(url: str, *, since_last: bool) -> dict[str, Any]:
    """Verifies a ledger, and returns the seconds, processor seconds and peak memory in MB."""
    start = time.perf_counter_ns()
    with BudgetGuard(url) as guard:
        guard.verify(since_last=since_last, remember=True)
    return measured(start)


def sums(url: str) -> dict[str, Any]:
    """Compares only the sums, in two processes: lines and buckets with the journal."""
    start = time.perf_counter_ns()
    with ProcessPoolExecutor(2) as pool:
        names = ("lines, half 1", "lines, half 2", "buckets")
        for differences in pool.map(partial(differences_of, url), names):
            assert not differences
    return measured(start)


def differences_of(url: str, name: str) -> list[Any]:
    """Returns the differences that one query finds."""
    queries = {step.name: step.text for step in steps.steps(dialects.SQLITE, since_last=False, halved=True)}
    database = sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)
    database.execute("PRAGMA cache_size = -64000")
    return database.execute(queries[name], {"since": 0, "observed": 0}).fetchall()


def measured(start: int) -> dict[str, Any]:
    """Returns what this process and those that it started have used since a start."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor = sum(Decimal(used.ru_utime + used.ru_stime) for used in (own, others))
    return {
        "seconds": f"{Decimal(time.perf_counter_ns() - start) / 10**9:.1f}",
        "processor": f"{processor:.1f}",
        "memory": max(used.ru_maxrss for used in (own, others)) // 1024,
    }


CONTESTANTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "sums": sums,
    "verify": lambda url: verify(url, since_last=False),
    "since": lambda url: verify(url, since_last=True),
}


def run_apart(contestant: str, url: str) -> str:
    """Runs a contestant in its own process, and returns the cells of its row.

    A process begins with the peak memory of the process that started it, so this one must stay small.
    """
    done = subprocess.run(  # noqa: S603 (this file)
        [sys.executable, __file__, contestant, url], check=True, capture_output=True, text=True
    )
    used = json.loads(done.stdout)
    return f"{used['seconds']} | {used['processor']} | {used['memory']}"


def show(store: str, url: str, reservations: int) -> None:
    """Prints the rows of a store."""
    ledger = f"{store}, {reservations:,} reservations"
    if store == "SQLite":
        print(f"| {ledger}, sums alone | {run_apart('sums', url)} |", flush=True)
    print(f"| {ledger}, `verify` | {run_apart('verify', url)} |", flush=True)
    jobs(url, NEWER, "newer")
    print(f"| {ledger}, `verify --since-last` | {run_apart('since', url)} |", flush=True)


def main(in_file: int, on_server: int) -> None:
    """Prints a table."""
    print("| ledger | seconds | processor seconds of the client | peak memory of its largest process, MB |")
    print("|---|---|---|---|")
    with ExitStack() as stack:
        if in_file:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            path = folder / "spend.db"
            with ProcessPoolExecutor(1) as pool:
                show("SQLite", pool.submit(fill_file, path, in_file).result(), in_file)
        if on_server:
            url = os.environ.get("KLING_PRICING_TEST_POSTGRES")
            if url is None:
                servers = stack.enter_context(folder_for_servers())
                url = stack.enter_context(running(servers / "benchmark")).url
            show("PostgreSQL", fill_database(url, on_server), on_server)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in CONTESTANTS:
        print(json.dumps(CONTESTANTS[sys.argv[1]](sys.argv[2])))
    else:
        main(*[int(number.replace(",", "")) for number in [*sys.argv[1:], "2000000", "200000"][:2]])
