"""Revisions of the budgets, and what becomes of the balances when they change."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.errors import BudgetError, LedgerError
from kling_pricing.ledger.claims import claim
from kling_pricing.ledger.records import Reservation
from kling_pricing.ledger.sqlite import balances, reservations
from kling_pricing.ledger.sqlite.balances import Move
from kling_pricing.ledger.sqlite.values import alert_texts, text, written
from kling_pricing.money import multiply, nanos_up


class Revision(NamedTuple):
    """The budgets in force."""

    digest: str
    document: str


def current(db: sqlite3.Connection) -> Revision | None:
    """The newest revision; None: there is none yet."""
    row = db.execute("SELECT digest, document FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
    return None if row is None else Revision(*row)


def is_in_force(db: sqlite3.Connection, digest: str) -> bool:
    """Whether the newest revision is this one."""
    row = db.execute("SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
    return row is not None and row[0] == digest


def in_force(db: sqlite3.Connection) -> Revision:
    """The newest revision of a ledger that is in use.

    Raises:
        LedgerError: there is none, so it is not the ledger that the guard was opened on.
    """
    found = current(db)
    if found is None:
        raise LedgerError("the ledger has lost its budgets: its file was replaced; start the guard again")
    return found


def add(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> None:
    """Installs budgets."""
    db.execute(
        "INSERT INTO budget_revision (digest, document, installed_at) VALUES (?, ?, ?)",
        (budgets.digest, budgets.document, written(now)),
    )
    balances.enter(db, now, "revision", None, (), budgets.digest)


def replace(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> None:
    """Installs budgets in place of those in force.

    Raises:
        BudgetError: a budget of the same name counts otherwise, and does not carry over what was counted.
    """
    before = current(db)
    if before is not None and before.digest == budgets.digest:
        return
    add(db, budgets, now)
    if before is None:
        return
    known = {budget.name: budget for budget in budgets_from_document(before.document).budgets}
    for budget in budgets.budgets:
        old = known.get(budget.name)
        if old is None or old.definition != budget.definition:
            if budget.carry_over:
                _carry_over(db, budgets, budget, now)
            elif old is not None:
                raise BudgetError(
                    f"budget {budget.name} has another match, window, zone or currency than before; give it another "
                    "name, or say carry_over: true, so that it counts what was spent until now"
                )
        db.execute(
            "UPDATE bucket SET cap = ?, alerts = ? WHERE budget = ? AND definition = ? AND window_end > ?",
            (
                nanos_up(budget.cap),
                alert_texts(budget.alerts),
                budget.name,
                budget.definition,
                written(now),
            ),
        )


def _carry_over(db: sqlite3.Connection, budgets: BudgetsFile, budget: BudgetEntry, now: datetime) -> None:
    """Counts in a budget's buckets what the ledger holds of requests that it matches, in windows not yet over."""
    rows = db.execute(f"{reservations.SELECT} ORDER BY created_at, id").fetchall()
    for row in rows:
        found = reservations.from_row(row, now)
        own = budget.bucket_labels(found.labels)
        period = budget.period(found.created_at)
        if own is not None and period is not None and period.end > now:
            rate = budgets.rate(found.currency, budget)
            _carry(db, budget, own, rate, found, now)
    openings = db.execute(
        "SELECT bucket.labels, bucket.currency, journal.at, spent_delta FROM journal"
        " JOIN bucket ON bucket.id = journal.bucket WHERE kind = 'opening' AND budget = ? AND definition <> ?"
        " AND window_end > ?",
        (budget.name, budget.definition, written(now)),
    ).fetchall()
    if openings:
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; give "
            "the new budget another name and open it with the whole balance"
        )


def _carry(
    db: sqlite3.Connection,
    budget: BudgetEntry,
    own: dict[str, str],
    rate: Decimal | None,
    found: Reservation,
    now: datetime,
) -> None:
    """Adds a line of one reservation to one bucket, unless it has it."""
    wanted = claim(budget, own, rate, found.created_at)
    if wanted is None:
        return
    (room,) = balances.rooms(db, [wanted], found.created_at)
    counted = [
        nanos_up(amount if rate is None else multiply(amount, rate))
        for amount in (found.reserved, found.billed or Decimal(0))
    ]
    added = db.execute(
        "INSERT OR IGNORE INTO reservation_line (reservation, bucket, held, spent, rate) VALUES (?, ?, ?, ?, ?)",
        (found.id, room.bucket, *counted, text(rate)),
    )
    if added.rowcount:
        held = counted[0] if found.state in reservations.OPEN else 0
        balances.enter(db, now, "carry_over", found.id, [Move(room.bucket, held, counted[1])], None)
