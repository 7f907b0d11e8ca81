"""Footers below a statement's rows, such as `End of the report`: text without an id, an amount or a date.

Such a row is neither a charge nor an unreadable row; the output names it. A row that has an amount, or text in
two columns, is never a footer, and neither is a row whose text is a task in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from kling_pricing.reconcile.id_forms import bare_id, unguarded
from kling_pricing.reconcile.mangled_ids import KNOWN_TASKS
from kling_pricing.reconcile.problems import FOOTER_ROW
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_MAX_NAMED = 3
"""The most footers of a file that are named."""


def read_footers(workspace: Workspace, statements: Sequence[Statement]) -> tuple[str, ...]:
    """Returns the footers in the files, as a clause for each file that has any.

    A row whose text is a task in the ledger is a row without an amount instead.

    Args:
        workspace: the database with the charges and the reservations.
        statements: the statements.
    """
    if not workspace.one(f"SELECT count(*) FROM charge WHERE problem.kind = '{FOOTER_ROW}'"):
        return ()
    clauses = []
    for file, statement in enumerate(statements):
        amount = statement.mapping.amount
        workspace.run(
            f"""
            UPDATE charge SET problem = {{'column': ?, 'kind': 'empty', 'text': ''}}
            WHERE file = ? AND problem.kind = '{FOOTER_ROW}'
              AND (task_id IN ({KNOWN_TASKS}) OR {bare_id(unguarded("task_id"))} IN ({KNOWN_TASKS}))
            """,
            ["" if amount is None else amount.column, file],
        )
        rows = workspace.all(
            f"""
            SELECT coalesce("row", rowid - ? + ?) FROM charge WHERE file = ? AND problem.kind = '{FOOTER_ROW}'
            ORDER BY rowid
            """,
            [statement.first, statement.first_row, file],
        )
        if rows:
            clauses.append(_clause(statement.name, [row for (row,) in rows]))
    return tuple(clauses)


def _clause(name: str, rows: Sequence[int]) -> str:
    named = ", ".join(map(str, rows[:_MAX_NAMED]))
    if len(rows) > _MAX_NAMED:
        named += f" and {len(rows) - _MAX_NAMED} more"
    if len(rows) == 1:
        return f"row {named} of {name} is a footer: it has text, but no id, no amount and no date"
    return f"rows {named} of {name} are footers: they have text, but no id, no amount and no date"
