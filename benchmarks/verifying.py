"""Measures `verify` and `verify --since-last` on large ledgers.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/verifying.py [SQLITE] [POSTGRES]

The two numbers are the reservations in the two ledgers: 2,000,000 and 200,000 by default; 0 skips a store.
A guard makes a few reservations in different states. SQL statements then copy their rows, each copy with an id,
a key, a task and a seal of its own.
"""

import os
import resource
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the PostgreSQL server of the tests

from kling_pricing import Budget, BudgetGuard
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger.administration import prepare
from kling_pricing.ledger.sqlite.seals import seal
from kling_pricing.ledger.terms import SEALED_COLUMNS
from tests.servers import folder_for_servers, running

BUDGETS = [Budget(name="all", cap=Decimal(10**8), currency="USD")]
PAYLOAD = {"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "1080p", "audio": True}
TEMPLATES = 20
"""The number of reservations whose rows are copied: one is released, one is bound, and the others are settled."""

COPIES = (
    """
    CREATE TEMPORARY TABLE copy AS
    SELECT {number} AS number, {new_id} AS id, source.id AS source, source.task_id || '-' || {number} AS task
    FROM {numbers} JOIN (SELECT id, task_id, row_number() OVER (ORDER BY id) - 1 AS place FROM reservation) AS source
      ON source.place = {number} % {templates}
    """,
    """
    INSERT INTO reservation ({columns}, seal)
    SELECT {copied}, {sealed} FROM (
      SELECT {renamed}, NULL AS seal FROM copy JOIN reservation ON reservation.id = copy.source ORDER BY copy.number
    ) AS kept
    """,
    """
    INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
    SELECT copy.id, bucket, held, spent, rate FROM copy JOIN reservation_line AS line ON line.reservation = copy.source
    ORDER BY copy.id
    """,
    """
    INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)
    SELECT at, kind, copy.id, bucket, held_delta, spent_delta,
      CASE kind WHEN 'bind' THEN copy.task ELSE detail END
    FROM copy JOIN journal ON journal.reservation = copy.source ORDER BY copy.number, seq
    """,
    "UPDATE bucket SET held = (SELECT sum(held_delta) FROM journal), spent = (SELECT sum(spent_delta) FROM journal)",
)
"""The statements that fill a ledger with copies."""


def begin(url: str) -> None:
    """Makes the reservations to copy."""
    with BudgetGuard(url, BUDGETS) as guard:
        for place in range(TEMPLATES):
            admission = guard.admit(PAYLOAD, project="trailer", labels={"user": "li"})
            guard.dispatch(admission)
            guard.bind(admission, f"task-{place}")
            if place == 0:
                guard.observe({"task_id": f"task-{place}", "status": "failed", "cost": 0}, provider="qingbo")
            elif place > 1:
                guard.settle(admission, "0.7")
        guard.verify()


def statements(columns: list[str], **parts: str) -> list[str]:
    """Returns the statements for a store."""
    fresh = {"id": "copy.id", "key": "copy.id", "task_id": "copy.task"}
    columns = [column for column in columns if column not in {"seal", "seq"}]
    renamed = ", ".join(f"{fresh.get(column, f'reservation.{column}')} AS {column}" for column in columns)
    texts = {"columns": ", ".join(columns), "copied": ", ".join(columns), "renamed": renamed}
    return [text.format(templates=TEMPLATES, **texts, **parts) for text in COPIES]


def fill_file(path: Path, reservations: int) -> None:
    """Creates a large ledger in a file."""
    begin(f"sqlite:///{path}")
    database = sqlite3.connect(path, isolation_level=None)
    database.create_function("sealed", -1, seal, deterministic=True)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -500000")
    columns = [name for _, name, *_ in database.execute("PRAGMA table_info(reservation)")]
    count = reservations - TEMPLATES
    numbers = f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) SELECT i FROM n)"
    database.execute("BEGIN")
    for statement in statements(
        columns,
        number="i",
        numbers=numbers,
        new_id="lower(hex(randomblob(16)))",
        sealed=f"sealed({', '.join(SEALED_COLUMNS)})",
    ):
        database.execute(statement)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


if __name__ == "__main__":
    start = time.time()
    fill_file(Path(sys.argv[1]), int(sys.argv[2]))
    print("filled", time.time() - start)
