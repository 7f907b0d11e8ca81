"""Measures the admissions per second of a guard on PostgreSQL, and of plain SQL that writes the same rows.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/guarding_postgres.py

The baseline is one transaction with only the statements that every guard needs.
They lock the bucket, write the reservation, its line and the journal entry, and update the balance.
The baseline sends them one after the other over the same kind of connection, as pgbench would.
It does no quoting or checking.
The contestants take turns on one server, so that a slow moment affects all of them.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the PostgreSQL server of the tests

from kling_pricing import Budget, BudgetGuard
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger.administration import prepare
from tests.servers import folder_for_servers, running

ROUNDS, TURN_S = 5, 2
USERS = 64
PAYLOAD = {
    "model": "kling-v3",
    "prompt": "A paper boat crosses a puddle in the rain, seen from just above the water",
    "duration": 5,
    "resolution": "1080p",
    "audio": True,
}
BUDGETS = [
    Budget(name="hot", match={"project": "hot"}, cap=Decimal(1_000_000_000), currency="USD"),
    Budget(name="spread", match={"project": "spread", "user": "*"}, cap=Decimal(1_000_000_000), currency="USD"),
]
STATEMENTS = """\
BEGIN;
SELECT cap - held - spent FROM kling_pricing.bucket WHERE id = %(bucket)s FOR UPDATE;
INSERT INTO kling_pricing.reservation (
  id, project, key, attempt, state, provider, wire_format, model, resolution, tier, quantity, unit, currency,
  expected, reserved, price_table, table_digest, statement_unit, unit_value, failed_tasks, labels, changes,
  fingerprint, created_at, deadline
) VALUES (
  %(id)s, %(project)s, %(id)s, 1, 'reserved', 'acme', 'tasks', 'model', '1080p', 'audio', 5, 'second', 'USD',
  714000000, 714000000, 'acme/2026-01-01', 'digest', 'quota', 0.000002, 'refunded', %(labels)s, '{}',
  'fingerprint', now(), now() + interval '15 minutes'
);
INSERT INTO kling_pricing.reservation_line (reservation, bucket, held) VALUES (%(id)s, %(bucket)s, 714000000);
UPDATE kling_pricing.bucket SET held = held + 714000000 WHERE id = %(bucket)s;
INSERT INTO kling_pricing.journal (at, kind, reservation, bucket, held_delta)
VALUES (now(), 'reserve', %(id)s, %(bucket)s, 714000000);
COMMIT
"""


def bare(url: str, project: str) -> Callable[[int], None]:
    """Returns the baseline, in which each statement waits for the result of the one before."""
    connection = psycopg.connect(url, autocommit=True)
    rows = connection.execute(
        "SELECT id FROM kling_pricing.bucket WHERE budget = %s ORDER BY labels", [project]
    ).fetchall()
    buckets = [bucket for (bucket,) in rows]
    statements = [statement.encode() for statement in STATEMENTS.split(";")]

    def admit(number: int) -> None:
        values = {
            "id": uuid4().hex,
            "project": project,
            "bucket": buckets[number % len(buckets)],
            "labels": f'{{"project": "{project}", "user": "u{number % USERS}"}}',
        }
        for statement in statements:
            connection.execute(statement, values)

    return admit


def guarded(url: str, project: str) -> Callable[[int], None]:
    """Returns a function that admits: it reads, checks, quotes and reserves a request."""
    guard = BudgetGuard(url)

    def admit(number: int) -> None:
        guard.admit(PAYLOAD, project=project, labels={"user": f"u{number % USERS}"})

    return admit


CONTESTANTS = {"baseline": bare, "guard": guarded}


def client(url: str, project: str, barrier: Any, results: Any) -> None:
    """Runs in each client process: takes part in every turn and counts the admissions of each contestant."""
    contestants = {name: make(url, project) for name, make in CONTESTANTS.items()}
    counts = dict.fromkeys(contestants, 0)
    number = os.getpid()
    for admit in contestants.values():  # warms up connections, plans and caches
        for _ in range(20):
            admit(number := number + 1)
    for _ in range(ROUNDS):
        for name, admit in contestants.items():
            barrier.wait()
            end = time.perf_counter() + TURN_S
            while time.perf_counter() < end:
                admit(number := number + 1)
                counts[name] += 1
    results.put(counts)


def per_s(url: str, project: str, clients: int) -> dict[str, int]:
    """Returns the admissions per second of each contestant, in all client processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(clients), context.SimpleQueue()
    processes = [context.Process(target=client, args=(url, project, barrier, results)) for _ in range(clients)]
    for process in processes:
        process.start()
    counts = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return {name: sum(count[name] for count in counts) // (ROUNDS * TURN_S) for name in CONTESTANTS}


def main() -> None:
    """Prints a table."""
    with ExitStack() as stack:
        url = os.environ.get("KLING_PRICING_TEST_POSTGRES")
        if url is None:
            folder = stack.enter_context(folder_for_servers())
            url = stack.enter_context(running(folder / "benchmark")).url
        prepare(url, create=True)
        apply_budgets(url, BUDGETS)
        guard = BudgetGuard(url)
        for project in ("hot", "spread"):
            for user in range(USERS):
                guard.admit(PAYLOAD, project=project, labels={"user": f"u{user}"})  # creates the buckets
        print("| budgets | clients | baseline, per second | guard, per second | guard / baseline |")
        print("|---|---|---|---|---|")
        for project, budgets in (("hot", "1"), ("spread", str(USERS))):
            for clients in (1, 4):
                counts = per_s(url, project, clients)
                ratio = Decimal(counts["guard"]) / Decimal(counts["baseline"])
                print(f"| {budgets} | {clients} | {counts['baseline']:,} | {counts['guard']:,} | {ratio:.2f} |")
        guard.verify()  # also checks the rows that the baseline wrote
        guard.close()


if __name__ == "__main__":
    main()
