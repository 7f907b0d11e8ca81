"""Matching: the expected side against the charged side, task by task, in SQL.

Both sides are reduced to one row per task before the join, because repeated rows would multiply in it.
Each match becomes a row of the table `line`; later steps explain its variance.

| column | meaning |
|---|---|
| category | see `categories.Category` |
| place | the task's first charge in `charge`; NULL: the task is not on the statement |
| merged | the task's row in `merged`, if it has several charges |
| reservation | the task's row in `reserved`; NULL: it has no reservation |
| currency | of `expected` and `billed`, which are in nanos |
| expected, billed | the amounts that fall in the period; NULL: none does |
| native, unit, worth | the charge in the statement's own unit, and that unit's row in `worth` |
| whole, whole_native | the task's whole charge, in the period or not, in nanos and in that unit |
| gap | the whole charge minus what is due for the task, in nanos; NULL: no gap to explain |
| explanation | the row in `explanation`; NULL: none |
| unread | the row in `unread`, added by `unreadable_rows`; NULL: every row of the task was read |
| is_exception, is_open | set at the end by `categories.mark_exceptions` |
| is_disputed | set after that by `dispute_marks.mark_disputed` |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from kling_pricing.reconcile.charge_sql import UNFINISHED
from kling_pricing.reconcile.line_table import make_lines
from kling_pricing.reconcile.merged_tables import MERGED_TABLES
from kling_pricing.reconcile.stated_ends import apply_stated_ends
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.units import Unit
from kling_pricing.reconcile.workspace import Workspace

IN_PERIOD = "(charged_at IS NULL OR (charged_at >= $since AND charged_at < $until))"
"""Condition on a charge; a charge without a time falls in the period of the statement."""

OWNED = """
    owned AS (
      SELECT reserved.rowid AS place, task_id, currency, statement_unit, unit_value, due, inside, copies,
        dispatched_at
      FROM reserved JOIN terms ON terms.id = reserved.terms WHERE task_id IS NOT NULL AND NOT spare
    )
"""
"""The reservations with a task, one per task."""

WITH_WORTH = """
    LEFT JOIN worth AS past ON past.unit = bill.unit AND past.unit = owned.statement_unit
      AND past.written = owned.unit_value AND past.currency = owned.currency
    LEFT JOIN worth AS usual ON usual.unit = bill.unit AND usual.written IS NULL
"""
"""Joins a bill and its reservation to the unit's worth: at the time of the reservation, else the usual one."""

WORTH = "coalesce(past.id, usual.id) AS worth, coalesce(past.currency, usual.currency) AS currency"


class StatementPeriod:
    """The period, as parameters of queries.

    Args:
        since: its start.
        until: its end (exclusive).
        grace: how long after its submission a task may still be charged.
    """

    def __init__(self, since: datetime, until: datetime, grace: timedelta) -> None:
        self.values: Mapping[str, datetime] = {
            "since": since.replace(tzinfo=None),
            "until": until.replace(tzinfo=None),
        }
        self.grace = grace
        self.overdue: Mapping[str, datetime] = {"overdue": (until - grace).replace(tzinfo=None)}


def match(
    workspace: Workspace,
    statements: Sequence[Statement],
    units: Iterable[Unit],
    period: StatementPeriod,
    *,
    remembered: int,
    usual: str,
) -> None:
    """Makes a line for each task that is on the statement, in the ledger, or both.

    Args:
        workspace: the database with both sides.
        statements: the statements in it.
        units: the provider's own units.
        period: the period.
        remembered: the number of remembered files with charges.
        usual: the currency of lines without a currency of their own.
    """
    apply_stated_ends(workspace)
    make_lines(workspace, statements, units)
    answers = any(statement.is_answers for statement in statements)
    _merge(workspace, period, answers=answers, files=len(statements) + remembered)
    _join(workspace, period, usual)
    _split_currencies(workspace)
    _add_requests_without_task(workspace, period)


def _merge(workspace: Workspace, period: StatementPeriod, *, answers: bool, files: int) -> None:
    """Merges the rows of each task with several rows into one row of `merged` per currency.

    Charges add up: those of the period to the billed amount, all of them to the whole charge.
    """
    workspace.run(
        "CREATE TABLE several AS SELECT task_id FROM charge WHERE problem IS NULL"
        " GROUP BY task_id HAVING count(*) > 1"
    )
    for table in MERGED_TABLES:
        workspace.run(table)
    if not workspace.one("SELECT count(*) FROM several"):
        return
    workspace.run(
        f"""
        CREATE TABLE listed AS
        SELECT *, {IN_PERIOD} AS inside FROM (
          SELECT charge.rowid AS place, file, "row", task_id, native, earlier, unit, state, billed_at,
            submitted_at, coalesce(billed_at, submitted_at) AS charged_at, row_id
          FROM charge SEMI JOIN several USING (task_id) WHERE problem IS NULL
        )
        """,
        period.values,
    )
    _supersede(workspace, answers=answers, files=files)
    workspace.run(
        """
        INSERT INTO part
        WITH sided AS (
          SELECT *, inside = bool_or(inside) OVER (PARTITION BY task_id) AS counted,
            place IN (SELECT place FROM superseded) AS dropped
          FROM listed
        ), placed AS (
          SELECT *, list({'place': place, 'file': file, 'row': "row"}) FILTER (counted)
            OVER (PARTITION BY task_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
            AS places,
            list({'place': place, 'file': file, 'row': "row", 'at': charged_at})
              FILTER (NOT counted AND NOT dropped AND native <> 0)
            OVER (PARTITION BY task_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
            AS elsewhere
          FROM sided
        )
        SELECT place, task_id, native, earlier, unit, inside, places, elsewhere,
          native > 0 AND charged_at < $since AS is_earlier, ifnull(charged_at >= $until, FALSE) AS is_later,
          inside = bool_or(inside) OVER (PARTITION BY task_id) AS counted
        FROM placed WHERE NOT dropped
        """,
        period.values,
    )
    workspace.run("DROP TABLE listed")
    workspace.run(
        f"""
        INSERT INTO merged BY NAME
        WITH {OWNED}, repeated AS (
          SELECT DISTINCT task_id FROM part WHERE native <> 0 GROUP BY task_id, unit, abs(native)
          HAVING count(*) FILTER (native > 0) - count(*) FILTER (native < 0) > 1
        ), summed AS (
          SELECT task_id, unit, bool_or(inside) AS inside, any_value(places) AS places,
            any_value(elsewhere) AS elsewhere, ifnull(sum(native) FILTER (is_earlier), 0) AS earlier,
            ifnull(sum(native + ifnull(part.earlier, 0)) FILTER (NOT is_later), 0) AS upto,
            sum(native) FILTER (counted) AS native, sum(native + ifnull(earlier, 0)) AS whole_native,
            coalesce(
              min(place) FILTER (counted AND native IS NOT NULL),
              min(place) FILTER (native IS NOT NULL), min(place)
            ) AS place
          FROM part GROUP BY task_id, unit
        ), valued AS (
          SELECT bill.*, owned.currency AS quoted_in, {WORTH},
            money(native, coalesce(past.atto, usual.atto)) AS money,
            money(whole_native, coalesce(past.atto, usual.atto)) AS whole,
            money(bill.earlier, coalesce(past.atto, usual.atto)) AS taken,
            money(upto, coalesce(past.atto, usual.atto)) AS upto_end
          FROM summed AS bill
          LEFT JOIN owned ON owned.task_id = bill.task_id
          {WITH_WORTH}
          WHERE whole_native IS NOT NULL
            OR bill.task_id NOT IN (SELECT task_id FROM part WHERE native IS NOT NULL)
        ), by_currency AS (
          SELECT task_id, currency, any_value(quoted_in) AS quoted_in, bool_or(inside) AS inside,
            min(place) AS place, any_value(places) AS places, any_value(elsewhere) AS elsewhere,
            sum(money) AS money, sum(whole) AS whole, sum(taken) AS taken, sum(upto_end) AS upto_end,
            CASE WHEN count(*) = 1 THEN any_value(native) END AS native,
            CASE WHEN count(*) = 1 THEN any_value(whole_native) END AS whole_native,
            CASE WHEN count(*) = 1 THEN any_value(unit) END AS unit,
            CASE WHEN count(*) = 1 THEN any_value(worth) END AS worth
          FROM valued GROUP BY task_id, currency
        )
        SELECT by_currency.*, task_id IN (FROM repeated) AS repeated,
          row_number() OVER (PARTITION BY task_id ORDER BY currency IS DISTINCT FROM quoted_in, currency) > 1
            AS extra
        FROM by_currency ORDER BY task_id, currency
        """
    )


def _supersede(workspace: Workspace, *, answers: bool, files: int) -> None:
    """Fills the table `superseded` with rows that do not count, because another row stands for them.

    One answer about a task counts, with all parts of its charge: an answer with a charge before one without,
    then an answer about an ended task before one about a running task, then the last. Rows of tables to which
    the provider gives the same id are one row. Without an id, if two files have the same charge at the same
    instant, they overlap, and the charge of the first file counts.
    """
    if answers:
        workspace.run(
            f"""
            INSERT INTO superseded
            WITH answer AS (
              SELECT task_id, file, "row", count(native) = 0 AS is_free,
                bool_or(ifnull(state IN ({UNFINISHED}), FALSE)) AS is_running, max(place) AS place
              FROM listed GROUP BY task_id, file, "row"
            ), best AS (
              SELECT task_id, file, "row" FROM answer
              QUALIFY row_number() OVER (PARTITION BY task_id ORDER BY is_free, is_running, place DESC) = 1
            )
            SELECT place, task_id, NULL FROM listed ANTI JOIN best USING (task_id, file, "row")
            """
        )
    else:
        identity = "task_id, row_id, CASE WHEN row_id IS NULL THEN (native, unit, billed_at, submitted_at) END"
        workspace.run(
            f"""
            INSERT INTO superseded
            WITH counted AS (
              SELECT *, CASE WHEN row_id IS NULL THEN row_number() OVER (
                PARTITION BY {identity}, file ORDER BY place
              ) END AS occurrence
              FROM listed WHERE row_id IS NOT NULL
                OR ({files} > 1 AND charged_at IS NOT NULL AND native IS NOT NULL)
            )
            SELECT place, task_id, file FROM counted QUALIFY place <> min(place) OVER (
              PARTITION BY {identity}, occurrence
            )
            """
        )


def _join(workspace: Workspace, period: StatementPeriod, usual: str) -> None:
    """Adds a line for each task that either side knows."""
    workspace.run(
        f"""
        INSERT INTO line (
          category, place, merged, reservation, currency, expected, billed, native, unit, worth, whole,
          whole_native, gap
        )
        WITH {OWNED}, bill AS (
          SELECT rowid AS place, NULL AS merged, task_id, native, native + ifnull(earlier, 0) AS whole_native,
            unit, NULL AS money, NULL AS whole, NULL AS currency, NULL AS worth,
            {IN_PERIOD.replace("charged_at", "coalesce(billed_at, submitted_at)")} AS inside,
            FALSE AS repeated, FALSE AS extra, 0 AS taken,
            NULL AS upto_end
          FROM charge ANTI JOIN several USING (task_id) WHERE problem IS NULL
          UNION ALL
          SELECT place, rowid, task_id, native, whole_native, unit, money, whole, currency, worth, inside,
            repeated, extra, taken, upto_end
          FROM merged
        ), joined AS (
          SELECT bill.place, bill.merged, owned.place AS reservation, native, whole_native, bill.unit, money,
            whole,
            coalesce(bill.worth, past.id, usual.id) AS worth,
            coalesce(bill.currency, past.currency, usual.currency) AS currency,
            coalesce(past.atto, usual.atto) AS atto, owned.currency AS quoted_in,
            due, repeated, taken, upto_end, copies, dispatched_at, extra, ifnull(bill.inside, FALSE) AS charged,
            ifnull(owned.inside AND NOT ifnull(extra, FALSE), FALSE) AS sent
          FROM bill FULL JOIN owned ON bill.task_id = owned.task_id
          {WITH_WORTH}
        ), valued AS (
          SELECT * REPLACE (coalesce(whole, money(whole_native, atto)) AS whole),
            coalesce(money, money(native, atto)) AS charge, ifnull(currency <> quoted_in, FALSE) AS differs
          FROM joined
          WHERE sent OR (charged AND (native IS NOT NULL OR money IS NOT NULL OR reservation IS NULL))
        ), sorted AS (
          SELECT *, CASE
            WHEN repeated AND charged
              AND coalesce(upto_end, whole) > CASE WHEN differs THEN 0 ELSE ifnull(due, 0) END
              THEN 'billed_twice'
            WHEN charged AND charge > 0 AND taken > 0 AND taken >= due AND upto_end > due AND NOT differs
              THEN 'billed_twice'
            WHEN copies > 1 THEN 'reserved_twice'
            WHEN (differs AND charged AND charge IS NOT NULL) OR extra THEN 'currency_mismatch'
            WHEN sent AND due <> 0 AND whole IS NULL
              THEN CASE WHEN dispatched_at > $overdue THEN 'not_billed_yet' ELSE 'not_billed' END
            WHEN reservation IS NULL THEN 'not_in_ledger'
            WHEN sent AND charged AND charge = due AND upto_end = due THEN 'matched'
            WHEN place IS NOT NULL AND (sent <> charged OR whole IS DISTINCT FROM charge) THEN 'timing'
            WHEN ifnull(charge, 0) = due THEN 'matched'
            ELSE 'unexplained' END AS category
          FROM valued
        )
        SELECT category, place, merged, reservation,
          CASE WHEN charged AND charge IS NOT NULL THEN currency ELSE coalesce(quoted_in, currency, $usual) END,
          CASE WHEN sent AND NOT (differs AND charged AND charge IS NOT NULL) THEN due END,
          CASE WHEN charged THEN charge END, native, unit, worth, whole, whole_native,
          CASE WHEN category IN ('timing', 'unexplained') AND charged AND charge IS NOT NULL AND whole <> due
            THEN whole - due END
        FROM sorted
        """,
        {**period.values, **period.overdue, "usual": usual},
    )


def _split_currencies(workspace: Workspace) -> None:
    """Adds a line for the expected amount of each task that was charged in another currency."""
    workspace.run(
        """
        INSERT INTO line (category, reservation, currency, expected)
        SELECT 'currency_mismatch', line.reservation, terms.currency, due
        FROM line JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
        LEFT JOIN merged ON merged.rowid = line.merged
        WHERE line.currency <> terms.currency AND reserved.inside AND NOT ifnull(extra, FALSE)
        """
    )


def _add_requests_without_task(workspace: Workspace, period: StatementPeriod) -> None:
    """Adds a line for each request that was sent and whose task is unknown."""
    workspace.run(
        """
        INSERT INTO line (category, reservation, currency, expected)
        SELECT CASE WHEN due = 0 THEN 'matched' WHEN dispatched_at > $overdue THEN 'not_billed_yet'
            ELSE 'not_billed' END,
          reserved.rowid, currency, due
        FROM reserved JOIN terms ON terms.id = reserved.terms WHERE task_id IS NULL AND inside
        """,
        period.overdue,
    )
