"""The tie-out: expected + the variances of all lines = billed, to the last digit, or there is no report.

The expected amounts are summed from the reservations, and the billed amounts from the rows of the statements in
their own units, both as they were read.
The lines must come to the same sums, so a task that was lost or counted twice on the way does not go unnoticed.
"""

from __future__ import annotations

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.reconcile.matching import IN_PERIOD, StatementPeriod
from kling_pricing.reconcile.workspace import Workspace


def tie_out(workspace: Workspace, period: StatementPeriod) -> None:
    """Compares the lines with the reservations and rows that they were made from.

    Raises:
        KlingPricingError: they do not tie out, which is a bug in this library.
    """
    problems = [
        f"{side} in {unit}: {format_decimal(from_nanos(read))} read,"
        f" {format_decimal(from_nanos(lines))} in the lines"
        for side, unit, read, lines in workspace.all(_DIFFERENCES, period.values)
    ]
    if wrong := workspace.one(_WRONGLY_VALUED):
        problems.append(f"in {wrong} lines, the value differs from the charge")
    if problems:
        raise KlingPricingError(
            f"the reconciliation's totals do not agree, so there is no report ({'; '.join(problems)}); "
            "this is a bug in kling_pricing; please report it"
        )


_DIFFERENCES = f"""
    WITH expected_read AS (
      SELECT currency AS name, sum(due) AS amount FROM reserved JOIN terms ON terms.id = reserved.terms
      WHERE inside AND NOT spare GROUP BY currency
    ), expected_lines AS (
      SELECT currency AS name, sum(expected) AS amount FROM line WHERE expected IS NOT NULL GROUP BY currency
    ), charged_read AS (
      SELECT unit AS name, sum(native) AS amount FROM (
        SELECT unit, native, coalesce(billed_at, submitted_at) AS charged_at
        FROM charge ANTI JOIN several USING (task_id) WHERE problem IS NULL AND native IS NOT NULL
      ) WHERE {IN_PERIOD} GROUP BY unit
    ), charged_lines AS (
      SELECT unit AS name, sum(native) AS amount FROM line
      WHERE merged IS NULL AND billed IS NOT NULL GROUP BY unit
    ), merged_read AS (
      SELECT unit AS name, sum(native) AS amount FROM part WHERE inside AND native IS NOT NULL GROUP BY unit
    ), merged_lines AS (
      SELECT part.unit AS name, sum(part.native) AS amount FROM part
      WHERE part.native IS NOT NULL AND task_id IN (
        SELECT task_id FROM merged JOIN line ON line.merged = merged.rowid WHERE line.billed IS NOT NULL
      ) AND part.inside GROUP BY part.unit
    )
    {
    " UNION ALL ".join(
        f"SELECT '{side}', name, ifnull(source.amount, 0), ifnull(lines.amount, 0) FROM {table}_read AS source"
        f" FULL JOIN {table}_lines AS lines USING (name)"
        " WHERE ifnull(source.amount, 0) <> ifnull(lines.amount, 0)"
        for side, table in (
            ("expected", "expected"),
            ("charged", "charged"),
            ("charged in several rows", "merged"),
        )
    )
}
"""

_WRONGLY_VALUED = """
    SELECT count(*) FROM line JOIN worth ON worth.id = line.worth
    WHERE (billed IS NOT NULL AND native IS NOT NULL AND billed <> money(native, atto))
      OR (whole_native IS NOT NULL AND whole <> money(whole_native, atto))
"""
