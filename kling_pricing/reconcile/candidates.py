"""Requests without a known task, and charges of unknown tasks: which of them fit each other.

The task of a request is unknown if no answer named it.
A fit is only a proposal: many requests may have the same model, amount and time, so a person decides on pairs.
"""

from __future__ import annotations

from datetime import timedelta

from kling_pricing.reconcile.matching import StatementPeriod
from kling_pricing.reconcile.workspace import Workspace

MAX_NAMED = 5
"""The number of candidates that a line names: the nearest in time."""

_CLOCK_SKEW = timedelta(minutes=10)
"""How far the provider's clock may be behind ours."""


_IS_UNKNOWN = "category = 'not_in_ledger' AND line.billed > 0"
"""Condition on a line of a charge for an unknown task."""


def propose(workspace: Workspace, period: StatementPeriod, window: timedelta) -> None:
    """Puts lines that fit each other into `in_doubt_candidate`, and makes the table `candidate` of the fits.

    A charge fits a request if everything that is stated agrees: the currency, the amount as the statement can
    write it, the model, and a time between the request's and `window` later.

    Args:
        workspace: the database with the lines.
        period: the period; requests shortly before it count too.
        window: how long after a request was sent its task may appear on the statement.
    """
    workspace.run("CREATE TABLE candidate (reservation BIGINT, charge BIGINT, fits BIGINT, names VARCHAR[])")
    times = {"earliest": period.values["since"] - window, "until": period.values["until"]}
    is_request = "task_id IS NULL AND due <> 0 AND dispatched_at >= $earliest AND dispatched_at < $until"
    if not workspace.one(f"SELECT count(*) FROM line WHERE {_IS_UNKNOWN}") or not workspace.one(
        f"SELECT count(*) FROM reserved WHERE {is_request}", times
    ):
        return
    workspace.run(
        f"""
        CREATE TABLE unknown_charge AS
        SELECT line.rowid AS line, charge.task_id, line.currency, line.billed, worth.grain, row_facts.models,
          coalesce(billed_at, submitted_at) AS charged_at
        FROM line JOIN charge ON charge.rowid = line.place
        LEFT JOIN worth ON worth.id = line.worth
        LEFT JOIN row_facts ON row_facts.file = charge.file AND row_facts.stated = charge.stated
        WHERE {_IS_UNKNOWN} AND charge.task_id NOT IN (SELECT task_id FROM elsewhere)
        """
    )
    workspace.run(
        f"""
        CREATE TABLE request AS
        SELECT reserved.rowid AS reservation, reserved.id, currency, due, model, dispatched_at
        FROM reserved JOIN terms ON terms.id = reserved.terms
        WHERE {is_request}
        """,
        times,
    )
    fits = """
        FROM request JOIN unknown_charge AS charge ON charge.currency = request.currency
          AND charge.billed BETWEEN request.due - ifnull(grain, 1) + 1 AND request.due + ifnull(grain, 1) - 1
          AND (charge.models IS NULL OR list_contains(charge.models, request.model))
          AND (charged_at IS NULL OR charged_at BETWEEN dispatched_at - $skew AND dispatched_at + $window)
    """
    distance = "abs(epoch_us(coalesce(charged_at, dispatched_at)) - epoch_us(dispatched_at))"

    def nearest(name: str) -> str:
        smallest = f"min({{'distance': {distance}, 'name': {name}}}, {MAX_NAMED})"
        return f"list_transform({smallest}, lambda candidate: candidate.name)"

    workspace.run(
        f"""
        INSERT INTO candidate
        SELECT reservation, NULL::BIGINT AS charge, count(*) AS fits, {nearest("task_id")} AS names
        {fits} GROUP BY reservation
        UNION ALL
        SELECT NULL, line, count(*), {nearest("id")} {fits} GROUP BY line
        """,
        {"skew": _CLOCK_SKEW, "window": window},
    )
    workspace.run("UPDATE line SET category = 'in_doubt_candidate' FROM candidate WHERE line.rowid = charge")
    workspace.run(
        "UPDATE line SET category = 'in_doubt_candidate' FROM candidate"
        " WHERE line.reservation = candidate.reservation AND category IN ('not_billed', 'not_billed_yet')"
    )
