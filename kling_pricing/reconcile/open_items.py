"""What is still open when a month is closed, derived from the books.

The books do not have the explanations of a reconciliation. A charge whose dispute was resolved is not open, and
neither is a difference of less than one of the statement's own units per row, which is rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import from_nanos
from kling_pricing.reconcile.bookkeeping import targets
from kling_pricing.reconcile.months import BooksPeriod
from kling_pricing.reconcile.workspace import Workspace

_GRACE = timedelta(days=1)
_MAX_NAMED = 3

OpenKind: TypeAlias = Literal["charged_too_much", "not_in_ledger", "not_charged"]
"""Why tasks are open.

`charged_too_much`: they were charged more than expected, and the excess is not in dispute.
`not_in_ledger`: they were charged, and the ledger does not have them.
`not_charged`: they were sent more than a day before the end of the month, and were not charged in full.
"""


class OpenItems(NamedTuple):
    """The tasks that are open for one reason, in one currency.

    Attributes:
        kind: the reason.
        currency: the currency.
        tasks: the number of tasks.
        amount: the sum of their open amounts.
        first: the tasks with the largest open amounts, at most three, each with its amount.
    """

    kind: OpenKind
    currency: str
    tasks: int
    amount: Decimal
    first: tuple[tuple[str, Decimal], ...]


def open_items(workspace: Workspace, period: BooksPeriod, ledger: int) -> tuple[OpenItems, ...]:
    """Returns what a period leaves open.

    Charges are open in the period in which they enter the books; tasks that are not charged stay open.

    Args:
        workspace: the database with the books.
        period: the period.
        ledger: the ledger whose facts count.
    """
    rows: Sequence[tuple[OpenKind, str, int, int, list[dict[str, int | str]]]] = workspace.all(
        f"""
        WITH {targets("start", 0, period, ledger)}, {targets("end", 1, period, ledger)}, sent AS (
          SELECT task, currency, min("at") AS "at" FROM fact WHERE kind = 'use' AND ledger = $ledger
          GROUP BY task, currency
        ), unit AS (
          SELECT task, currency, sum(CASE WHEN unit = currency THEN 0
            ELSE abs(CAST(amount AS HUGEINT)) * 1000000000 // abs(native) END) AS rounding
          FROM fact WHERE kind = 'row' AND ledger = $ledger AND native <> 0 GROUP BY task, currency
        ), state AS (
          SELECT task, currency, sent."at", end_target.owed, end_target.variance,
            end_target.variance - ifnull(start_target.variance, 0) AS change, ifnull(rounding, 0) AS rounding
          FROM end_target LEFT JOIN start_target USING (task, currency)
          LEFT JOIN sent USING (task, currency) LEFT JOIN unit USING (task, currency)
        ), open AS (
          SELECT CASE WHEN "at" IS NULL THEN 'not_in_ledger' ELSE 'charged_too_much' END AS kind,
            task, currency, CAST(variance AS BIGINT) AS amount
          FROM state WHERE change > 0 AND variance > 0 AND variance >= rounding
            AND task NOT IN (SELECT task FROM fact WHERE kind = 'resolution' AND ledger = $ledger)
          UNION ALL
          SELECT 'not_charged', task, currency, CAST(owed AS BIGINT) FROM state
          WHERE owed > 0 AND owed >= rounding AND "at" < $before
        )
        SELECT kind, currency, count(*), CAST(sum(amount) AS BIGINT),
          list({{'task': task, 'amount': amount}} ORDER BY amount DESC, task)[:{_MAX_NAMED}]
        FROM open GROUP BY kind, currency ORDER BY kind, currency
        """,
        {"ledger": ledger, "before": period.until.replace(tzinfo=None) - _GRACE},
    )
    return tuple(
        OpenItems(
            *(kind, currency, tasks, from_nanos(amount)),
            tuple((str(each["task"]), from_nanos(int(each["amount"]))) for each in first),
        )
        for kind, currency, tasks, amount, first in rows
    )
