"""Task ids that another program has changed: which of them can be restored.

A spreadsheet program may put a guard character before an id (`'867`, `="867"`), pad it with spaces, group its
digits (`867,283`), add `.0`, or remove its leading zeros. If the ledger has the id without the guard, the id is
restored, because two tasks cannot differ only in such characters. Any other changed id is a problem of its row:
the row is counted nowhere, and no remedy names the id.
"""

from __future__ import annotations

from collections.abc import Sequence

from kling_pricing.reconcile.id_forms import bare_id, unguarded
from kling_pricing.reconcile.staging import matches
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

KNOWN_TASKS = "SELECT task_id FROM reserved WHERE task_id IS NOT NULL"
"""The SQL of the tasks that the ledgers have."""


def restore_ids(workspace: Workspace, statements: Sequence[Statement]) -> None:
    """Restores the ids whose bare form a ledger has, and marks the rows of ids that lost their zeros.

    Args:
        workspace: the database with the charges and the reservations.
        statements: the statements.
    """
    if workspace.one("SELECT count(*) FROM charge WHERE problem.kind IN ('guarded', 'long', 'words')"):
        for changed in ("task_id", bare_id(unguarded("task_id"))):
            workspace.run(
                f"""
                UPDATE charge SET task_id = {changed}, problem = NULL
                WHERE problem.kind IN ('guarded', 'long', 'words') AND {changed} IN ({KNOWN_TASKS})
                """
            )
    lengths = workspace.all(
        f"""
        SELECT min(length(task_id)), max(length(task_id)) FROM reserved
        WHERE task_id IS NOT NULL AND {matches("task_id", "[0-9]+")}
        HAVING bool_or(starts_with(task_id, '0'))
        """
    )
    for shortest, longest in lengths:
        is_short = f"length(charge.task_id) < {longest}" if shortest == longest else "FALSE"
        without = f"SELECT ltrim(task_id, '0') FROM ({KNOWN_TASKS}) WHERE starts_with(task_id, '0')"
        for file, statement in enumerate(statements):
            workspace.run(
                f"""
                UPDATE charge SET problem = {{'column': ?, 'kind': 'zeros', 'text': task_id}}
                WHERE file = ? AND problem IS NULL AND {matches("task_id", "[1-9][0-9]*")}
                  AND (task_id IN ({without}) OR {is_short}) AND task_id NOT IN ({KNOWN_TASKS})
                """,
                [statement.task_column, file],
            )
