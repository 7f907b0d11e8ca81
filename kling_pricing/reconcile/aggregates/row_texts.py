"""The SQL of the parts of a row that only sums have: the columns that divide them, and the number of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kling_pricing.reconcile.aggregates.sum_columns import AggregatesEntry
from kling_pricing.reconcile.problems import RowCheck, is_whole
from kling_pricing.reconcile.staging import literal
from kling_pricing.reconcile.statement_columns import RequiredColumnEntry
from kling_pricing.reconcile.totals_rows import words_check

_NAME = "a-sum-of-tasks-1"
"""A text that no check takes for a changed id."""


class SumTexts(NamedTuple):
    """The SQL of the parts of a row.

    Attributes:
        name: the text in place of a task id; empty if the row is blank.
        stated: the texts of `charge.stated`: the model, the resolution, the tier, the project, the account,
            and the number of tasks.
        texts: the texts of a row, besides its amount, in the query.
        totals: the checks that find totals.
        checks: the checks that find other problems.
    """

    name: str
    stated: list[str]
    texts: list[str]
    totals: list[RowCheck]
    checks: list[RowCheck]


def sum_texts(
    entry: AggregatesEntry,
    text_of: Callable[[RequiredColumnEntry | None], str],
    mark_of: Callable[[RequiredColumnEntry], str],
) -> SumTexts:
    """Returns the SQL of the parts of a row.

    Args:
        entry: the meaning of the columns.
        text_of: column -> the SQL of its text in the file, which is empty if there is no such column.
        mark_of: column -> the SQL of its text in the query, for checks.
    """
    keys = [(key, f"trim({mark_of(key)})") for key in entry.keys]
    tasks = f"trim(ifnull({text_of(entry.tasks)}, ''))"
    checks = [RowCheck(f"{text} = ''", key.column, "no_key", "''") for key, text in keys]
    if entry.day is not None:
        is_instant = "ifnull(billed_at <> date_trunc('day', billed_at), FALSE)"
        checks.append(RowCheck(is_instant, entry.day.column, "day", "billed_text"))
    if entry.tasks is not None:
        checks.append(
            RowCheck(f"NOT {is_whole('stated.facts[4]')}", entry.tasks.column, "tasks", "stated.facts[4]")
        )
    blank = " AND ".join(f"trim(ifnull({text_of(each)}, '')) = ''" for each in (entry.amount, *entry.keys))
    parts = (entry.model, entry.resolution, entry.tier, entry.project, entry.account)
    return SumTexts(
        f"CASE WHEN {blank} THEN '' ELSE {literal(_NAME)} END",
        [*(f"trim({text_of(part)})" for part in parts), tasks],
        [*(text for _, text in keys), "stated.facts[4]"],
        [words_check(key.column, text) for key, text in keys],
        checks,
    )
