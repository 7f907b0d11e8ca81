"""Matching: what was expected against what was charged, task by task, in SQL.

Both sides are brought to one row a task before they are joined: rows of a statement that repeat would multiply.
Each match becomes a row of the table `line`; what its variance is explained by comes later.

| column | what it is |
|---|---|
| category | as `records.Category` |
| place | its first charge in `charge`; NULL: it is not on the statement |
| merged | its row in `merged`, if it has several charges |
| reservation | its row in `reserved`; NULL: it has none |
| currency | of `expected` and `billed`, which are in nanos |
| expected, billed | what falls into the period; NULL: nothing does |
| native, unit, worth | what was charged in the statement's own unit, and that unit's row in `worth` |
| gap | by how much the whole charge differs from what is due for the task, in nanos; NULL: it does not |
| cause | row in `finding`, where something was found out about it |
| open | whether somebody has to do something about it |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import get_args

from kling_pricing.money import MAX_DECIMALS, NANOS
from kling_pricing.reconcile.records import Category
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.units import WORTH_DIGITS, Unit
from kling_pricing.reconcile.workspace import Workspace

_SCALE = 10**WORTH_DIGITS
_CURRENCY = "regexp_full_match(unit, '[A-Z]{3}')"

IN_PERIOD = "(said_at IS NULL OR (said_at >= $since AND said_at < $until))"
"""Of a charge; one without a time falls into the period that the statement is for."""

_MONEY = f"""
    CREATE MACRO money(native, atto) AS
      CASE WHEN native < 0 THEN -((-CAST(native AS HUGEINT) * atto + {_SCALE // 2}) // {_SCALE})
        ELSE (CAST(native AS HUGEINT) * atto + {_SCALE // 2}) // {_SCALE} END
"""
"""Of native amounts; exact, unless a unit's worth has more than nine decimals: then half up, as for a quote."""

_WITH_WORTH = """
    LEFT JOIN worth AS past ON past.unit = bill.unit AND past.unit = owned.statement_unit
      AND past.written = owned.unit_value AND past.currency = owned.currency
    LEFT JOIN worth AS usual ON usual.unit = bill.unit AND usual.written IS NULL
"""
"""Of a bill and the reservation that owns it: what the unit was worth then, or else usual."""

_WORTH = "coalesce(past.id, usual.id) AS worth, coalesce(past.currency, usual.currency) AS currency"


class Period:
    """The period, as parameters of queries.

    Args:
        since: where it begins.
        until: where it ends, exclusive.
        grace: how long after a task was sent it may be charged late.
    """

    def __init__(self, since: datetime, until: datetime, grace: timedelta) -> None:
        self.values: Mapping[str, datetime] = {
            "since": since.replace(tzinfo=None),
            "until": until.replace(tzinfo=None),
        }
        self.overdue: Mapping[str, datetime] = {"overdue": (until - grace).replace(tzinfo=None)}


def match(
    workspace: Workspace,
    statements: Sequence[Statement],
    units: Iterable[Unit],
    period: Period,
    *,
    usual: str,
) -> None:
    """Makes the lines of what is on the statement, in the ledger, or both.

    Args:
        workspace: where both are.
        statements: those that were read.
        units: the provider's own.
        period: the period.
        usual: the currency of lines that have none.
    """
    workspace.run(_MONEY)
    workspace.run(f"CREATE TYPE category AS ENUM ({', '.join(repr(each) for each in get_args(Category))})")
    workspace.run(
        """
        CREATE TABLE line (
          category category, place BIGINT, merged BIGINT, reservation BIGINT, currency VARCHAR,
          expected HUGEINT, billed HUGEINT, native HUGEINT, unit VARCHAR, worth USMALLINT, gap HUGEINT,
          cause BIGINT, open BOOLEAN
        )
        """
    )
    _value_units(workspace, statements, units)
    _merge(workspace, period, answers=any(each.is_answers for each in statements))
    _join(workspace, period, usual)
    _split_currencies(workspace)
    _add_holds(workspace, period)
    _add_unreadable(workspace, usual)


def _value_units(workspace: Workspace, statements: Iterable[Statement], units: Iterable[Unit]) -> None:
    """What each unit is worth: as it was when a task was reserved (`written`), or else today (NULL)."""
    workspace.run(
        "CREATE TABLE worth (id USMALLINT, unit VARCHAR, written VARCHAR, currency VARCHAR, atto HUGEINT,"
        " decimals UTINYINT, grain HUGEINT)"
    )
    currencies = workspace.all(
        f"SELECT DISTINCT unit FROM charge WHERE problem IS NULL AND {_CURRENCY} ORDER BY 1"
    )
    reserved = workspace.all(
        "SELECT DISTINCT statement_unit, unit_value, currency FROM reserved"
        " WHERE statement_unit IS NOT NULL AND unit_value IS NOT NULL ORDER BY ALL"
    )
    known = [(unit, None, unit, Decimal(1)) for (unit,) in currencies]
    known += [(unit.name, None, unit.currency, unit.worth) for unit in units]
    known += [(unit, written, currency, Decimal(written)) for unit, written, currency in reserved]
    for number, (unit, written, currency, worth) in enumerate(known):
        decimals = [each.decimals(unit) for each in statements]
        finest = max(MAX_DECIMALS if each is None else each for each in decimals)
        atto = int(worth.scaleb(WORTH_DIGITS))
        grain = max(1, atto * NANOS // 10**finest // _SCALE)
        workspace.run(
            "INSERT INTO worth VALUES (?, ?, ?, ?, ?, ?, ?)",
            [number, unit, written, currency, atto, finest, grain],
        )


def _merge(workspace: Workspace, period: Period, *, answers: bool) -> None:
    """Tasks with several rows become one of `merged` for each currency.

    Charges add up, within the period if any of them is in it. Of answers the last that states a charge counts.
    """
    workspace.run(
        "CREATE TABLE several AS SELECT task_id FROM charge WHERE problem IS NULL"
        " GROUP BY task_id HAVING count(*) > 1"
    )
    workspace.run(
        f"""
        CREATE TABLE part AS
        WITH listed AS (
          SELECT charge.rowid AS place, task_id, native, unit, coalesce(billed_at, submitted_at) AS said_at,
            {{'place': charge.rowid, 'file': file, 'row': "row"}} AS here
          FROM charge SEMI JOIN several USING (task_id) WHERE problem IS NULL
        ), sided AS (
          SELECT *, {IN_PERIOD} AS inside FROM listed
        )
        SELECT place, task_id, native, unit, inside,
          list(here) OVER (PARTITION BY task_id ORDER BY place
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS places
        FROM sided QUALIFY inside = bool_or(inside) OVER (PARTITION BY task_id)
        """,
        period.values,
    )
    workspace.run(
        f"""
        CREATE TABLE superseded AS
        SELECT place FROM part WHERE {"TRUE" if answers else "FALSE"} AND place NOT IN
          (SELECT coalesce(max(place) FILTER (native IS NOT NULL), max(place)) FROM part GROUP BY task_id)
        """
    )
    workspace.run("DELETE FROM part WHERE place IN (FROM superseded)")
    workspace.run(
        f"""
        CREATE TABLE merged AS
        WITH repeated AS (
          SELECT DISTINCT task_id FROM part WHERE native <> 0 GROUP BY task_id, unit, abs(native)
          HAVING abs(count(*) FILTER (native > 0) - count(*) FILTER (native < 0)) > 1
        ), summed AS (
          SELECT task_id, unit, bool_or(inside) AS inside, sum(native) AS native, any_value(places) AS places,
            coalesce(min(place) FILTER (native IS NOT NULL), min(place)) AS place
          FROM part GROUP BY task_id, unit
        ), valued AS (
          SELECT bill.*, owned.currency AS own, {_WORTH},
            money(native, coalesce(past.atto, usual.atto)) AS money
          FROM summed AS bill
          LEFT JOIN reserved AS owned ON owned.task_id = bill.task_id AND NOT spare
          {_WITH_WORTH}
          WHERE native IS NOT NULL OR bill.task_id NOT IN (SELECT task_id FROM part WHERE native IS NOT NULL)
        ), by_currency AS (
          SELECT task_id, currency, any_value(own) AS own, bool_or(inside) AS inside, min(place) AS place,
            any_value(places) AS places, sum(money) AS money,
            CASE WHEN count(*) = 1 THEN any_value(native) END AS native,
            CASE WHEN count(*) = 1 THEN any_value(unit) END AS unit,
            CASE WHEN count(*) = 1 THEN any_value(worth) END AS worth
          FROM valued GROUP BY task_id, currency
        )
        SELECT by_currency.*, task_id IN (FROM repeated) AS repeated,
          row_number() OVER (PARTITION BY task_id ORDER BY currency IS DISTINCT FROM own, currency) > 1 AS extra
        FROM by_currency ORDER BY task_id, currency
        """
    )


def _join(workspace: Workspace, period: Period, usual: str) -> None:
    workspace.run(
        f"""
        INSERT INTO line
        WITH bill AS (
          SELECT rowid AS place, NULL AS merged, task_id, native, unit, NULL AS money, NULL AS currency,
            NULL AS worth, {IN_PERIOD.replace("said_at", "coalesce(billed_at, submitted_at)")} AS inside,
            FALSE AS repeated, FALSE AS extra
          FROM charge ANTI JOIN several USING (task_id) WHERE problem IS NULL
          UNION ALL
          SELECT place, rowid, task_id, native, unit, money, currency, worth, inside, repeated, extra
          FROM merged
        ), owned AS (
          SELECT rowid AS place, task_id, currency, statement_unit, unit_value, due, inside, copies,
            dispatched_at
          FROM reserved WHERE task_id IS NOT NULL AND NOT spare
        ), joined AS (
          SELECT bill.place, bill.merged, owned.place AS reservation, native, bill.unit, money,
            coalesce(bill.worth, past.id, usual.id) AS worth,
            coalesce(bill.currency, past.currency, usual.currency) AS currency,
            coalesce(past.atto, usual.atto) AS atto, owned.currency AS own,
            due, repeated, copies, dispatched_at, extra, ifnull(bill.inside, FALSE) AS charged,
            ifnull(owned.inside AND NOT ifnull(extra, FALSE), FALSE) AS sent
          FROM bill FULL JOIN owned ON bill.task_id = owned.task_id
          {_WITH_WORTH}
        ), valued AS (
          SELECT *, coalesce(money, money(native, atto)) AS charge, ifnull(currency <> own, FALSE) AS differs
          FROM joined
          WHERE sent OR (charged AND (native IS NOT NULL OR money IS NOT NULL OR reservation IS NULL))
        ), sorted AS (
          SELECT *, CASE
            WHEN repeated AND charged THEN 'duplicate_theirs'
            WHEN copies > 1 THEN 'duplicate_ours'
            WHEN (differs AND charged AND charge IS NOT NULL) OR extra THEN 'currency_mismatch'
            WHEN sent AND due <> 0 AND charge IS NULL
              THEN CASE WHEN dispatched_at > $overdue THEN 'not_billed_yet' ELSE 'not_billed' END
            WHEN reservation IS NULL THEN 'not_in_ledger'
            WHEN place IS NOT NULL AND sent <> charged THEN 'timing'
            WHEN ifnull(charge, 0) = due THEN 'matched'
            ELSE 'unexplained' END AS category
          FROM valued
        )
        SELECT category, place, merged, reservation,
          CASE WHEN charged AND charge IS NOT NULL THEN currency ELSE coalesce(own, currency, $usual) END,
          CASE WHEN sent AND NOT (differs AND charged AND charge IS NOT NULL) THEN due END,
          CASE WHEN charged THEN charge END, native, unit, worth,
          CASE WHEN category IN ('timing', 'unexplained') AND charged AND charge <> due THEN charge - due END,
          NULL,
          CASE category WHEN 'not_in_ledger' THEN ifnull(charge, 0) <> 0
            ELSE category NOT IN ('not_billed_yet', 'timing', 'matched') END
        FROM sorted
        """,
        {**period.values, **period.overdue, "usual": usual},
    )


def _split_currencies(workspace: Workspace) -> None:
    """What was expected in another currency than it was charged in has a line of its own."""
    workspace.run(
        """
        INSERT INTO line
        SELECT 'currency_mismatch', NULL, NULL, line.reservation, reserved.currency, due, NULL, NULL, NULL,
          NULL, NULL, NULL, TRUE
        FROM line JOIN reserved ON reserved.rowid = line.reservation
        LEFT JOIN merged ON merged.rowid = line.merged
        WHERE line.currency <> reserved.currency AND reserved.inside AND NOT ifnull(extra, FALSE)
        """
    )


def _add_holds(workspace: Workspace, period: Period) -> None:
    """What was sent, and nobody knows its task."""
    workspace.run(
        """
        INSERT INTO line
        SELECT CASE WHEN dispatched_at > $overdue THEN 'not_billed_yet' ELSE 'not_billed' END, NULL, NULL,
          rowid, currency, due, NULL, NULL, NULL, NULL, NULL, NULL, dispatched_at <= $overdue
        FROM reserved WHERE task_id IS NULL AND inside
        """,
        period.overdue,
    )


def _add_unreadable(workspace: Workspace, usual: str) -> None:
    """Rows that cannot be read; they charge nothing that is known."""
    workspace.run(
        """
        INSERT INTO line
        SELECT 'invalid_row', rowid, NULL, NULL,
          CASE WHEN regexp_full_match(unit, '[A-Z]{3}') THEN unit ELSE ? END,
          NULL, NULL, NULL, NULL, NULL, NULL, NULL, TRUE
        FROM charge WHERE problem IS NOT NULL
        """,
        [usual],
    )
