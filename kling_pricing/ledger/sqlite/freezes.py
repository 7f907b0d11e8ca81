"""Freezes and thaws all spending, inside a transaction."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from kling_pricing.errors import BudgetFrozenError
from kling_pricing.ledger import errors
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.redaction import NO_REASON
from kling_pricing.ledger.sqlite import actions, balances
from kling_pricing.ledger.sqlite.codec import instant, written

ALL = "all"
"""The scope of a freeze that stops every request."""


def freeze(db: sqlite3.Connection, now: datetime, author: Author) -> None:
    """See `Ledger.freeze`."""
    reason = author.reason or NO_REASON
    added = db.execute(
        "INSERT OR IGNORE INTO frozen (scope, actor, reason, frozen_at) VALUES (?, ?, ?, ?)",
        (ALL, author.actor, reason, written(now)),
    )
    if added.rowcount:
        balances.enter(db, now, "freeze", None, (), f"{author.actor}: {reason}")
        actions.administer(db, now, author, "freeze", ALL, {"frozen": False}, {"frozen": True})


def thaw(db: sqlite3.Connection, now: datetime, author: Author) -> bool:
    """See `Ledger.thaw`."""
    if not db.execute("DELETE FROM frozen WHERE scope = ?", (ALL,)).rowcount:
        return False
    balances.enter(db, now, "thaw", None, (), f"{author.actor}: {author.reason or NO_REASON}")
    actions.administer(db, now, author, "thaw", ALL, {"frozen": True}, {"frozen": False})
    return True


def refusal(db: sqlite3.Connection) -> BudgetFrozenError | None:
    """Returns the error for a request while spending is frozen, or None if it is not."""
    row = db.execute("SELECT actor, reason, frozen_at FROM frozen WHERE scope = ?", (ALL,)).fetchone()
    return None if row is None else errors.frozen(row[0], row[1], instant(row[2]))
