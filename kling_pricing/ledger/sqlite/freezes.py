"""Freezes and thaws budgets or all spending, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from kling_pricing.budgets import BudgetEntry, budgets_from_document
from kling_pricing.errors import BudgetFrozenError
from kling_pricing.ledger import errors
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.freezing import ALL, Freeze, budget_of, require_known, scope_of
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.ledger.sqlite import action_rows, balances
from kling_pricing.ledger.sqlite.codec import instant, object_of, written

_SELECT = "SELECT scope, actor, reason, frozen_at FROM frozen"
_COUNTING = (
    "SELECT budget FROM reservation_line AS line JOIN bucket ON bucket.id = line.bucket WHERE reservation = ?"
)


def freeze(
    db: sqlite3.Connection, now: datetime, author: Author, budgets: Sequence[str] | None = None
) -> tuple[Freeze, ...]:
    """See `Interventions.freeze`."""
    _require_known(db, budgets or ())
    names: Sequence[str | None] = [None] if budgets is None else budgets
    for name in names:
        frozen = Freeze(name, author.actor, author.reason or NO_REASON, now)
        added = db.execute(
            "INSERT OR IGNORE INTO frozen (scope, actor, reason, frozen_at) VALUES (?, ?, ?, ?)",
            (scope_of(name), frozen.actor, frozen.reason, written(now)),
        )
        if added.rowcount:
            _enter(db, now, "freeze", frozen)
            action_rows.administer(db, now, author, "freeze", name or ALL, {"frozen": False}, {"frozen": True})
    return tuple(frozen for frozen in freezes(db) if frozen.budget in names)


def thaw(
    db: sqlite3.Connection, now: datetime, author: Author, budgets: Sequence[str] | None = None
) -> tuple[Freeze, ...]:
    """See `Interventions.thaw`."""
    in_force = {frozen.budget: frozen for frozen in freezes(db)}
    _require_known(db, [name for name in budgets or () if name not in in_force])
    names: Sequence[str | None] = [None] if budgets is None else budgets
    ended = [in_force[name] for name in dict.fromkeys(names) if name in in_force]
    for frozen in ended:
        db.execute("DELETE FROM frozen WHERE scope = ?", (scope_of(frozen.budget),))
        _enter(db, now, "thaw", Freeze(frozen.budget, author.actor, author.reason or NO_REASON, now))
        subject = frozen.budget or ALL
        action_rows.administer(db, now, author, "thaw", subject, {"frozen": True}, {"frozen": False})
    return tuple(ended)


def freezes(db: sqlite3.Connection) -> list[Freeze]:
    """See `Interventions.freezes`."""
    return [_freeze(*row) for row in db.execute(f"{_SELECT} ORDER BY scope <> 'all', frozen_at, scope")]


def refusal(db: sqlite3.Connection, budgets: Collection[str]) -> BudgetFrozenError | None:
    """Returns the error for a request that these budgets match, or None if no freeze concerns it."""
    return next((errors.frozen(frozen) for frozen in freezes(db) if frozen.budget in {None, *budgets}), None)


def refusal_of(db: sqlite3.Connection, reservation: str) -> BudgetFrozenError | None:
    """Returns the error for the dispatch of a reservation, or None if no freeze concerns it.

    A freeze concerns the budgets that count it, and those that match it but were added later.
    """
    if db.execute("SELECT 1 FROM frozen LIMIT 1").fetchone() is None:
        return None
    row = db.execute("SELECT labels FROM reservation WHERE id = ?", (reservation,)).fetchone()
    if row is None:
        return None
    labels = object_of(row[0])
    matching = [budget.name for budget in _in_force(db) if budget.bucket_labels(labels) is not None]
    counting = [budget for (budget,) in db.execute(_COUNTING, (reservation,))]
    return refusal(db, {*matching, *counting})


def _require_known(db: sqlite3.Connection, names: Iterable[str]) -> None:
    """Raises an error for a name that no budget in force has."""
    if names:
        require_known(names, [budget.name for budget in _in_force(db)])


def _in_force(db: sqlite3.Connection) -> Sequence[BudgetEntry]:
    """Returns the current budgets."""
    row = db.execute("SELECT document FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
    return () if row is None else budgets_from_document(row[0]).budgets


def _enter(db: sqlite3.Connection, now: datetime, verb: str, frozen: Freeze) -> None:
    kind, subject = (verb, "") if frozen.budget is None else (f"{verb}_budget", f"{frozen.budget}: ")
    balances.enter(db, now, kind, None, (), f"{subject}{frozen.actor}: {frozen.reason}")


def _freeze(scope: str, actor: str, reason: str, frozen_at: str) -> Freeze:
    return Freeze(budget_of(scope), actor, reason, instant(frozen_at))
