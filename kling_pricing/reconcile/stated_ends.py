"""The ends of tasks as the statement states them: a failed task that should be refunded costs nothing.

A ledger knows the end of a task only if a response or a callback named it.
The statement's own rows count as well.
"""

from __future__ import annotations

from kling_pricing.reconcile.workspace import Workspace

_FAILED = "'failed', 'cancelled'"
_IS_END = f"(state IN ({_FAILED}) OR step.kind = 'refund')"


def apply_stated_ends(workspace: Workspace) -> None:
    """Makes the table `stated_end`, and sets the due amount of tasks that failed according to the statement.

    The table has the tasks that failed or were cancelled, with that state. If the rows of a task state several
    ends, the last one counts: the last in time, then in the order of the rows. A row that refunds a task in a
    log of charges in advance states that the task failed.

    The due amount becomes zero if the price table of the quote says that failed tasks are refunded.
    """
    workspace.run("CREATE TABLE stated_end (task_id VARCHAR, state VARCHAR)")
    if not workspace.one(f"SELECT count(*) FROM charge WHERE {_IS_END}"):
        return
    workspace.run(
        f"""
        INSERT INTO stated_end
        WITH ended AS (
          SELECT rowid AS place, task_id, coalesce(billed_at, submitted_at, TIMESTAMP 'epoch') AS charged_at,
            coalesce(state, CASE WHEN step.kind = 'refund' THEN 'failed' END) AS state
          FROM charge WHERE problem IS NULL
            AND task_id IN (SELECT task_id FROM charge WHERE {_IS_END})
        )
        SELECT task_id, state FROM ended WHERE state IN ('succeeded', {_FAILED})
        QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY charged_at DESC, place DESC) = 1
        """
    )
    workspace.run(f"DELETE FROM stated_end WHERE state NOT IN ({_FAILED})")
    workspace.run(
        """
        UPDATE reserved SET due = 0 FROM stated_end, terms
        WHERE reserved.task_id = stated_end.task_id AND terms.id = reserved.terms
          AND terms.failed_tasks = 'refunded'
        """
    )
