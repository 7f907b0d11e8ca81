"""Revisions of the budgets, and what becomes of the balances when they change."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.errors import BudgetError, LedgerError
from kling_pricing.ledger.claims import claim
from kling_pricing.ledger.model import Alert, Reservation, Revision
from kling_pricing.ledger.sqlite import balances, reservations, transitions
from kling_pricing.ledger.sqlite.balances import Move
from kling_pricing.ledger.sqlite.codec import alert_texts, text, written
from kling_pricing.money import multiply, nanos_up
from kling_pricing.windows import FOREVER


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
    revision = current(db)
    if revision is None:
        raise LedgerError("the ledger has lost its budgets: its file was replaced; start the guard again")
    return revision


def add(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> Revision:
    """Installs budgets."""
    db.execute(
        "INSERT INTO budget_revision (digest, document, installed_at) VALUES (?, ?, ?)",
        (budgets.digest, budgets.document, written(now)),
    )
    balances.enter(db, now, "revision", None, (), budgets.digest)
    return Revision(budgets.digest, budgets.document)


def replace(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> tuple[Alert, ...]:
    """Installs budgets in place of those in force.

    Returns:
        The alerts of thresholds that are reached by what was counted before.

    Raises:
        BudgetError: a budget of the same name counts otherwise, and does not carry over what was counted.
    """
    before = current(db)
    if before is None:
        add(db, budgets, now)
        return ()
    installed = budgets_from_document(before.document)
    if installed.digest == budgets.digest:  # the ledger's own may be of an older kind
        return ()
    in_force = {budget.name for budget in installed.budgets}
    counted = _definitions(db)
    alerts: list[Alert] = []
    for budget in budgets.budgets:
        old = counted.get(budget.name, budget.definition)
        if budget.name not in in_force or old != budget.definition:
            if budget.carry_over:
                _carry_over(db, budgets, budget, now)
            elif old != budget.definition:
                raise BudgetError(
                    f"budget {budget.name} has another match, window, zone or currency than before; give it "
                    "another name, or say carry_over: true, so that it counts what was spent until now"
                )
        changed = db.execute(
            "UPDATE bucket SET cap = ?, alerts = ? WHERE budget = ? AND definition = ? AND window_end > ?"
            " RETURNING id",
            (
                nanos_up(budget.cap),
                alert_texts(budget.alerts),
                budget.name,
                budget.definition,
                written(now),
            ),
        ).fetchall()
        alerts += balances.threshold_alerts(db, [bucket for (bucket,) in changed], None, now)
    add(db, budgets, now)
    return tuple(alerts)


def _definitions(db: sqlite3.Connection) -> dict[str, str]:
    """Budget -> how it counted when it was last in force, those that were taken away since among them."""
    documents = db.execute("SELECT document FROM budget_revision ORDER BY revision").fetchall()
    return {
        budget.name: budget.definition
        for (document,) in documents
        for budget in budgets_from_document(document).budgets
    }


def _carry_over(db: sqlite3.Connection, budgets: BudgetsFile, budget: BudgetEntry, now: datetime) -> None:
    """Counts in a budget's buckets what the ledger holds of requests it matches, in windows not yet over."""
    current = budget.period(now)
    rows = db.execute(
        f"{reservations.SELECT} WHERE created_at >= ? ORDER BY created_at, rowid",
        (written(FOREVER.start if current is None else current.start),),
    ).fetchall()
    for row in rows:
        reservation = reservations.from_row(row, now)
        own = budget.bucket_labels(reservation.labels)
        period = budget.period(reservation.created_at)
        if own is not None and period is not None and period.end > now:
            rate = budgets.rate(reservation.currency, budget)
            _carry(db, budget, own, rate, reservation, now)
    openings = db.execute(
        "SELECT bucket.labels, bucket.currency, journal.at, spent_delta FROM journal"
        " JOIN bucket ON bucket.id = journal.bucket WHERE kind = 'opening' AND budget = ? AND definition <> ?"
        " AND window_end > ?",
        (budget.name, budget.definition, written(now)),
    ).fetchall()
    if openings:
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; "
            "give the new budget another name and open it with the whole balance"
        )


def _carry(
    db: sqlite3.Connection,
    budget: BudgetEntry,
    own: dict[str, str],
    rate: Decimal | None,
    reservation: Reservation,
    now: datetime,
) -> None:
    """Adds a line of one reservation to one bucket, unless it has it."""
    wanted = claim(budget, own, rate, reservation.created_at)
    (room,) = balances.rooms(db, [wanted], reservation.created_at)
    bucket = balances.opened(db, room)
    counted = [
        nanos_up(amount if rate is None else multiply(amount, rate))
        for amount in (reservation.reserved, reservation.billed or Decimal(0))
    ]
    added = db.execute(
        "INSERT OR IGNORE INTO reservation_line (reservation, bucket, held, spent, rate)"
        " VALUES (?, ?, ?, ?, ?)",
        (reservation.id, bucket, *counted, text(rate)),
    )
    if added.rowcount:
        held = counted[0] if reservation.state in transitions.OPEN else 0
        balances.enter(db, now, "carry_over", reservation.id, [Move(bucket, held, counted[1])], None)
