"""Holds without a task, and charged tasks that nobody knows: which of them fit each other.

A hold is what was sent when no answer came back.
That they fit is a proposal and no more: of the same model, the same amount and about the same time there may be
many, so they are paired by a person's decision alone.
"""

from __future__ import annotations

from datetime import timedelta

from kling_pricing.reconcile.matching import StatementPeriod
from kling_pricing.reconcile.workspace import Workspace

MAX_NAMED = 5
"""Of the candidates for one line, the nearest are named."""

_EARLIER = timedelta(minutes=10)
"""How far the provider's clock may be behind ours."""


def propose(workspace: Workspace, period: StatementPeriod, window: timedelta) -> None:
    """Finds what fits; those lines are in doubt then, and the table `candidate` says for which others.

    A charge fits a hold if nothing that is said of it differs: the currency, the amount as the statement can
    write it, the model, and an instant between the hold's and `window` later.

    Args:
        workspace: where the lines are.
        period: the period; holds of shortly before it count too.
        window: how long after a request was sent its task may be on the statement.
    """
    workspace.run(
        """
        CREATE TABLE stray AS
        SELECT line.rowid AS line, charge.task_id, line.currency, line.billed, worth.grain, saying.model,
          coalesce(billed_at, submitted_at) AS said_at
        FROM line JOIN charge ON charge.rowid = line.place
        LEFT JOIN worth ON worth.id = line.worth
        LEFT JOIN saying ON saying.file = charge.file AND saying.said = charge.said
        WHERE category = 'not_in_ledger' AND line.billed > 0
        """
    )
    workspace.run(
        """
        CREATE TABLE hold AS
        SELECT reserved.rowid AS reservation, reserved.id, currency, due, model, dispatched_at
        FROM reserved JOIN terms ON terms.id = reserved.terms
        WHERE task_id IS NULL AND due <> 0 AND dispatched_at >= $earliest AND dispatched_at < $until
        """,
        {"earliest": period.values["since"] - window, "until": period.values["until"]},
    )
    fitting = """
        FROM hold JOIN stray ON stray.currency = hold.currency
          AND stray.billed BETWEEN hold.due - ifnull(grain, 1) + 1 AND hold.due + ifnull(grain, 1) - 1
          AND (stray.model IS NULL OR stray.model = hold.model)
          AND (said_at IS NULL OR said_at BETWEEN dispatched_at - $earlier AND dispatched_at + $window)
    """
    distance = "abs(epoch_us(coalesce(said_at, dispatched_at)) - epoch_us(dispatched_at))"
    times = {"earlier": _EARLIER, "window": window}
    workspace.run(
        f"""
        CREATE TABLE candidate AS
        SELECT reservation, NULL::BIGINT AS stray, count(*) AS fitting,
          list_transform(min({{'distance': {distance}, 'name': task_id}}, {MAX_NAMED}), lambda each: each.name)
            AS names
        {fitting} GROUP BY reservation
        UNION ALL
        SELECT NULL, line, count(*),
          list_transform(min({{'distance': {distance}, 'name': id}}, {MAX_NAMED}), lambda each: each.name)
        {fitting} GROUP BY line
        """,
        times,
    )
    workspace.run(
        "UPDATE line SET category = 'in_doubt_candidate', open = TRUE FROM candidate WHERE line.rowid = stray"
    )
    workspace.run(
        "UPDATE line SET category = 'in_doubt_candidate', open = TRUE FROM candidate"
        " WHERE line.reservation = candidate.reservation AND category IN ('not_billed', 'not_billed_yet')"
    )
