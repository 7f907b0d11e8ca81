"""Writes and reads administrative actions, inside a transaction."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from kling_pricing.ledger.actions import AdministrativeAction, Author, action_seal, read_value, value_text
from kling_pricing.ledger.sqlite.codec import instant, written


def administer(
    db: sqlite3.Connection,
    now: datetime,
    author: Author,
    action: str,
    subject: str,
    old: Any = None,
    new: Any = None,
) -> None:
    """Writes an administrative action in the transaction that carries it out.

    Args:
        db: the connection.
        now: the instant of the action.
        author: who takes the action, and why.
        action: the action; see `AdministrativeAction`.
        subject: the budget or the part of the ledger that changes.
        old: the value before the action, as JSON data.
        new: the value after the action, as JSON data.
    """
    values = (author.actor, None, action, subject, value_text(old), value_text(new), author.reason)
    last = db.execute("SELECT seal FROM administration ORDER BY seq DESC LIMIT 1").fetchone()
    seal = action_seal("" if last is None else last[0], written(now), values)
    db.execute(
        "INSERT INTO administration (at, actor, role, action, subject, old, new, reason, seal)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (written(now), *values, seal),
    )


def actions(db: sqlite3.Connection) -> list[AdministrativeAction]:
    """Returns every administrative action, the oldest first."""
    rows = db.execute(
        "SELECT seq, at, actor, role, action, subject, old, new, reason FROM administration ORDER BY seq"
    )
    return [
        AdministrativeAction(
            seq, instant(at), actor, role, action, subject, read_value(old), read_value(new), reason
        )
        for seq, at, actor, role, action, subject, old, new, reason in rows
    ]
