"""Caps that replace the cap of a budget until an instant, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime

from kling_pricing.ledger.actions import CapOverlay
from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.money import from_nanos, nanos_up

_SELECT = "SELECT budget, cap, set_at, ends_at, actor, reason FROM cap_overlay"


def overlay_of(db: sqlite3.Connection, budget: str, at: datetime) -> CapOverlay | None:
    """Returns the overlay of a budget that has not ended at an instant, or None."""
    row = db.execute(f"{_SELECT} WHERE budget = ? AND ends_at > ?", (budget, written(at))).fetchone()
    return None if row is None else _overlay(*row)


def overlays(db: sqlite3.Connection) -> list[CapOverlay]:
    """Returns the newest overlay of each budget, ended or not."""
    return [_overlay(*row) for row in db.execute(f"{_SELECT} ORDER BY budget")]


def put(db: sqlite3.Connection, overlay: CapOverlay) -> None:
    """Writes an overlay in the place of the budget's earlier one."""
    db.execute(
        "INSERT OR REPLACE INTO cap_overlay (budget, cap, set_at, ends_at, actor, reason)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            overlay.budget,
            nanos_up(overlay.cap),
            written(overlay.set_at),
            written(overlay.until),
            overlay.actor,
            overlay.reason,
        ),
    )


def end(db: sqlite3.Connection, budget: str) -> None:
    """Ends the overlay of a budget."""
    db.execute("DELETE FROM cap_overlay WHERE budget = ?", (budget,))


def keep_only(db: sqlite3.Connection, budgets: Collection[str]) -> None:
    """Ends the overlays of budgets that are no longer in force."""
    places = ", ".join("?" * len(budgets))
    db.execute(f"DELETE FROM cap_overlay WHERE budget NOT IN ({places})", tuple(budgets))  # noqa: S608 (places)


def _overlay(budget: str, cap: int, set_at: str, ends_at: str, actor: str, reason: str | None) -> CapOverlay:
    return CapOverlay(budget, from_nanos(cap), instant(set_at), instant(ends_at), actor, reason)
