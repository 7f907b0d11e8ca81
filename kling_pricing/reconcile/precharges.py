"""Charges in advance: what a provider took for a task that it charges before the work and corrects after it.

new-api does so: a first row takes the expected amount, a later row has the difference and states the final
amount, and a failed task gets a refund. Older versions write the difference with a sign of its own, and leave
the task out of the first row; so amounts are never just added up. Of each task, in this order: a refund makes
it zero; else the latest row with a final amount counts; else the first row does.

`charge.step` says what a row does: `kind` is `refund`, `final` or `first`, `final` is the stated final amount,
and `taken` is the amount that it says was taken in advance.
Every row gets the amount by which it changes the charge, so that a task's rows add up to its charge, and each
period has the part that was taken or given back in it.
If no file has the first row of a task that was sent before the period, `earlier` is the amount that it took.
"""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime, timedelta
from typing import Any

from kling_pricing.reconcile.problems import NO_TASK
from kling_pricing.reconcile.workspace import Workspace

_LONGEST_WORK = timedelta(days=2)
"""How long after its first row a task may be corrected, if the first row does not name the task."""


def resolve_precharges(workspace: Workspace, since: datetime) -> None:
    """Replaces the amounts of rows that have a `step` by the amounts by which they change the charge.

    Args:
        workspace: the database with the charges and the reservations.
        since: start of the period.
    """
    workspace.run(
        f"""
        CREATE TABLE step AS
        SELECT charge.rowid AS place, file, task_id, native, coalesce(billed_at, submitted_at) AS made_at,
          lower(stated.model) AS model, step.kind AS kind, step.final AS final, step.taken AS taken
        FROM charge
        WHERE step IS NOT NULL AND native IS NOT NULL
          AND (problem IS NULL OR (task_id = '' AND problem.kind IN ('{NO_TASK}', 'taskless')))
        """
    )
    _leave_out_copies(workspace)
    _find_first_rows(workspace)
    workspace.run(
        """
        CREATE TABLE change AS
        WITH kept AS (
          SELECT *, sum(native) FILTER (kind = 'first') OVER (PARTITION BY task_id) AS taken_first
          FROM step WHERE task_id <> ''
        ), corrected AS (
          SELECT *, CASE WHEN kind = 'refund' THEN 0 ELSE final END AS whole,
            lag(CASE WHEN kind = 'refund' THEN 0 ELSE final END) OVER later AS before,
            row_number() OVER later AS number, ifnull(bool_or(kind = 'refund') OVER earlier, FALSE) AS is_over
          FROM kept WHERE kind <> 'first'
          WINDOW later AS (PARTITION BY task_id ORDER BY made_at, place),
            earlier AS (
              PARTITION BY task_id ORDER BY made_at, place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        )
        SELECT place, task_id,
          CASE WHEN is_over THEN 0 ELSE whole - coalesce(before, taken_first, 0) END AS native,
          CASE WHEN number = 1 AND taken_first IS NULL THEN taken END AS taken
        FROM corrected
        """
    )
    workspace.run("UPDATE charge SET native = change.native FROM change WHERE charge.rowid = change.place")
    workspace.run(
        """
        UPDATE charge SET native = change.native - change.taken, earlier = change.taken
        FROM change JOIN reserved ON reserved.task_id = change.task_id
        WHERE charge.rowid = change.place AND change.taken IS NOT NULL AND dispatched_at < ?
        """,
        [since.replace(tzinfo=None)],
    )


def _leave_out_copies(workspace: Workspace) -> None:
    """Leaves out rows that an earlier file has as well: exports overlap, and the rows have no id."""
    identity = "task_id, native, made_at, model, kind, final, taken"
    workspace.run(
        f"""
        CREATE TABLE repeated_step AS
        WITH counted AS (
          SELECT *, row_number() OVER (PARTITION BY {identity}, file ORDER BY place) AS occurrence FROM step
        )
        SELECT place, task_id, file FROM counted QUALIFY place <> min(place) OVER (
          PARTITION BY {identity}, occurrence
        )
        """
    )
    workspace.run("DELETE FROM step WHERE place IN (SELECT place FROM repeated_step)")
    workspace.run(
        f"UPDATE charge SET problem = {{'column': '', 'kind': '{NO_TASK}', 'text': ''}}"
        " FROM repeated_step WHERE charge.rowid = repeated_step.place"
    )


def _find_first_rows(workspace: Workspace) -> None:
    """Gives the first rows that name no task to the tasks that lack one: same model, amount, and time before.

    Rows with the same model and amount can only differ in their time, so the longest-waiting row comes first.
    """
    wanted = workspace.all(
        """
        SELECT task_id, arg_min(model, (made_at, place)), arg_min(taken, (made_at, place)), min(made_at)
        FROM step WHERE task_id <> '' GROUP BY task_id
        HAVING bool_and(kind <> 'first') AND count(made_at) = count(*) ORDER BY min(made_at), task_id
        """
    )
    if not wanted:
        return
    waiting: dict[Any, deque[tuple[datetime, int]]] = defaultdict(deque)
    for model, native, at, place in workspace.rows(
        "SELECT model, native, made_at, place FROM step"
        " WHERE task_id = '' AND kind = 'first' AND made_at IS NOT NULL ORDER BY made_at, place"
    ):
        waiting[model, native].append((at, place))
    matched = []
    for task_id, model, taken, at in wanted:
        rows = waiting[model, taken]
        while rows and rows[0][0] < at - _LONGEST_WORK:
            rows.popleft()
        if rows and rows[0][0] <= at:
            matched.append((rows.popleft()[1], task_id))
    if not matched:
        return
    workspace.run("CREATE TABLE first_row (place BIGINT, task_id VARCHAR)")
    workspace.insert("first_row", matched)
    for table, column in (("charge", "rowid"), ("step", "place")):
        workspace.run(
            f"UPDATE {table} SET task_id = first_row.task_id FROM first_row"
            f" WHERE {table}.{column} = first_row.place"
        )
    workspace.run("UPDATE charge SET problem = NULL FROM first_row WHERE charge.rowid = first_row.place")
