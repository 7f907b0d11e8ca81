"""Marks the lines whose excess is in dispute, so that their remedies do not ask for another dispute."""

from __future__ import annotations

from kling_pricing.reconcile.bookkeeping import DISPUTABLE_ROWS
from kling_pricing.reconcile.categories import count_exceptions
from kling_pricing.reconcile.workspace import Workspace

RESOLVED = "(dispute.ledger, dispute.seq) IN (SELECT (ledger, subject) FROM fact WHERE kind = 'resolution')"
"""The SQL condition that a dispute is resolved."""

OPEN_DISPUTES = f"""
    SELECT * FROM fact AS dispute WHERE kind = 'dispute' AND NOT {RESOLVED}
      AND (ledger, subject) IN (SELECT (ledger, seq) FROM ({DISPUTABLE_ROWS}))
"""
"""The SQL of the open disputes."""

_CATEGORIES = ("billed_twice", "currency_mismatch", "not_in_ledger", "timing", "explained", "unexplained")
"""The categories whose remedy is a dispute, if the charge is too high."""


def mark_disputed(workspace: Workspace) -> tuple[int, int, int]:
    """Makes the table `in_dispute` of the tasks with open disputes, and marks the lines of the table `line`.

    An exception is in dispute if the open disputes of its task cover the whole excess of its charge. It does
    not count as open then. If the books change, call it again.

    Args:
        workspace: the database with the lines, whose exceptions are marked, and with the books.

    Returns:
        The numbers of exceptions, of open ones, and of those in dispute.
    """
    workspace.run(
        f"""
        CREATE OR REPLACE TABLE in_dispute AS
        SELECT task, currency, CAST(sum(amount) AS HUGEINT) AS amount, list(seq ORDER BY "at", seq) AS numbers,
          min("at") AS since
        FROM ({OPEN_DISPUTES}) GROUP BY task, currency
        """
    )
    workspace.run("UPDATE line SET is_disputed = FALSE WHERE is_disputed")
    workspace.run(
        f"""
        UPDATE line SET is_disputed = TRUE
        FROM (
          SELECT line.rowid AS place
          FROM line JOIN charge ON charge.rowid = line.place
          JOIN in_dispute ON in_dispute.task = charge.task_id AND in_dispute.currency = line.currency
          LEFT JOIN reserved ON reserved.rowid = line.reservation
          LEFT JOIN terms ON terms.id = reserved.terms
          WHERE line.is_exception AND category IN {_CATEGORIES}
            AND in_dispute.amount >= line.whole
              - CASE WHEN terms.currency = line.currency THEN ifnull(reserved.due, 0) ELSE 0 END
        ) AS covered WHERE covered.place = line.rowid
        """
    )
    return count_exceptions(workspace)
