"""Compares the sums of a statement with those of the ledger, cell by cell, in SQL.

| table | meaning |
|---|---|
| `cell_day` | the days of the statement around the period, each with its first instant and that of the next |
| `stated_cell` | for each different `charge.stated`: the cell in the words of the price tables |
| `sum_row` | the rows of the statement that can be read, each with its cell |
| `used` | the reservations of the period, and those shortly before it, each with its cell |
| `cell` | one row per cell and currency that either side has, with the numbers of tasks |
| `line` | as in `matching`; `line.cell` is the number of the cell; rows that cannot be read have no cell |

The columns of a cell are `day`, `model`, `resolution`, `tier`, `project` and `account`. Those that the
statement does not divide by are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from kling_pricing.errors import KlingPricingError, StatementError
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.reconcile.aggregates.repeated_rows import refuse_repeated
from kling_pricing.reconcile.aggregates.sum_columns import AggregatesEntry
from kling_pricing.reconcile.line_table import make_lines
from kling_pricing.reconcile.matching import StatementPeriod
from kling_pricing.reconcile.model import Grain
from kling_pricing.reconcile.problems import IGNORED
from kling_pricing.reconcile.row_facts import facts_of_model, look_up
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.units import Unit
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import start_of, zone

KEY = ", ".join(get_args(Grain))
"""The columns of a cell."""

_LONGEST_PERIOD_DAYS = 3660


def grain_of(statements: Sequence[Statement]) -> tuple[AggregatesEntry, str]:
    """Returns the meaning of the columns of statements of sums, and the time zone of their days.

    Raises:
        StatementError: the files divide their sums by other columns, or their days are of other time zones.
    """
    entries = [each.mapping.aggregates for each in statements if each.mapping.aggregates is not None]
    first = entries[0]
    for statement, entry in zip(statements, entries, strict=True):
        if entry.grain != first.grain:
            raise StatementError(
                f"gives sums by {', '.join(entry.grain)}, but {statements[0].name} gives sums by "
                f"{', '.join(first.grain)}; reconcile the files one at a time",
                file=statement.name,
            )
        if entry.day is not None and first.day is not None and entry.day.timezone != first.day.timezone:
            raise StatementError(
                f"has days in {entry.day.timezone}, but {statements[0].name} has days in {first.day.timezone}; "
                "reconcile the files one at a time",
                file=statement.name,
            )
    return first, "UTC" if first.day is None else first.day.timezone


def compare_cells(
    workspace: Workspace,
    statements: Sequence[Statement],
    book: PriceBook,
    units: Iterable[Unit],
    period: StatementPeriod,
    usual: str,
) -> None:
    """Makes a line for each cell that is on the statement, in the ledger, or in both.

    Args:
        workspace: the database with both sides.
        statements: the statements.
        book: the wire formats, whose model names a statement may use.
        units: the provider's own units.
        period: the period.
        usual: the currency of lines without a currency of their own.

    Raises:
        StatementError: the period does not consist of whole days of the statement.
        KlingPricingError: the lines do not tie out, which is a bug in this library.
    """
    entry, zone_name = grain_of(statements)
    since, until = (at.replace(tzinfo=UTC) for at in (period.values["since"], period.values["until"]))
    _make_days(workspace, entry, zone_name, since, until, statements[0].name)
    _make_stated_cells(workspace, statements, book)
    refuse_repeated(workspace, statements)
    _make_sum_rows(workspace)
    _make_used(workspace, entry.grain, period, since)
    make_lines(workspace, statements, units)
    workspace.run("ALTER TABLE line ADD COLUMN cell BIGINT")
    _join_cells(workspace, period)
    _add_unreadable_rows(workspace, usual)
    _tie_out_cells(workspace)


def _make_days(
    workspace: Workspace, entry: AggregatesEntry, zone_name: str, since: datetime, until: datetime, file: str
) -> None:
    """Makes the table `cell_day`, from the day before the period to the day after it."""
    workspace.run("CREATE TABLE cell_day (day VARCHAR, since TIMESTAMP, until TIMESTAMP)")
    if entry.day is None:
        return
    place = zone(zone_name)
    first, last = (at.astimezone(place).date() for at in (since, until))
    if (start_of(first, place), start_of(last, place)) != (since, until):
        raise StatementError(
            f"gives sums by day in the time zone {zone_name}, and the period does not start and end with such "
            f"a day; give a period of whole days in this zone, for example with --timezone {zone_name}",
            file=file,
        )
    if (last - first).days > _LONGEST_PERIOD_DAYS:
        raise KlingPricingError("the period has too many days; give a period of at most ten years")
    days = [first + timedelta(days=number) for number in range(-1, (last - first).days + 2)]
    starts = [start_of(day, place).astimezone(UTC).replace(tzinfo=None) for day in days]
    rows = zip((f"{day}" for day in days), starts, starts[1:], strict=False)
    workspace.insert("cell_day", list(rows))


def _make_stated_cells(workspace: Workspace, statements: Sequence[Statement], book: PriceBook) -> None:
    workspace.run(
        "CREATE TABLE stated_cell (file USMALLINT, id BIGINT, model VARCHAR, resolution VARCHAR, tier VARCHAR,"
        " project VARCHAR, account VARCHAR, tasks BIGINT)"
    )
    workspace.run(
        "CREATE TABLE stated AS SELECT row_number() OVER (ORDER BY file, stated) AS id, file, stated"
        " FROM (SELECT DISTINCT file, stated FROM charge WHERE problem IS NULL)"
    )
    rows = []
    aliases: dict[str, str] = {}
    for number, file, stated in workspace.rows("SELECT id, file, stated FROM stated ORDER BY id"):
        entry = statements[file].mapping.aggregates
        if entry is not None:
            rows.append((file, number, *_stated_cell(book, entry, aliases, **stated)))
    workspace.insert("stated_cell", rows)
    workspace.run("CREATE TABLE model_alias (model VARCHAR, named VARCHAR)")
    workspace.insert("model_alias", list(aliases.items()))


def _stated_cell(
    book: PriceBook,
    entry: AggregatesEntry,
    aliases: dict[str, str],
    *,
    model: str,
    resolution: str,
    facts: Sequence[str],
) -> tuple[Any, ...]:
    """Returns the cell that a row's texts name, and its number of tasks.

    A name that several models share stands for all of them: `aliases` gets the others.
    """
    tier, project, account, tasks = facts
    readings = [reading.get("model", model) for reading in facts_of_model(book, entry.model, model)]
    named = readings[0] if readings else model
    for other in readings[1:]:
        if other != named:
            aliases[other] = named
    listed = (entry.resolution.names if entry.resolution else {}, entry.tier.names if entry.tier else {})
    known = (look_up(names, text) for names, text in zip(listed, (resolution, tier), strict=True))
    names = [name or text.lower() for name, text in zip(known, (resolution, tier), strict=True)]
    projects = entry.project.names if entry.project else {}
    accounts = entry.account.names if entry.account else {}
    parts = (projects.get(project, project), accounts.get(account, account))
    return named, *names, *parts, int(tasks) if tasks else None


def _make_sum_rows(workspace: Workspace) -> None:
    workspace.run(
        """
        CREATE TABLE sum_row AS
        SELECT charge.rowid AS place, charge.file, charge."row", native, unit, tasks,
          ifnull(strftime(billed_at, '%Y-%m-%d'), '') AS day, model, resolution, tier, project, account,
          billed_at IS NULL OR strftime(billed_at, '%Y-%m-%d') IN (
            SELECT day FROM cell_day WHERE since >= (SELECT min(until) FROM cell_day)
              AND until <= (SELECT max(since) FROM cell_day)
          ) AS inside
        FROM charge JOIN stated ON stated.file = charge.file AND stated.stated = charge.stated
        JOIN stated_cell ON stated_cell.id = stated.id
        WHERE problem IS NULL
        """
    )


def _make_used(workspace: Workspace, grain: Sequence[Grain], period: StatementPeriod, since: datetime) -> None:
    columns = {
        "day": "cell_day.day",
        "model": "coalesce(model_alias.named, terms.model)",
        "resolution": "terms.resolution",
        "tier": "terms.tier",
        "project": "project",
        "account": "reserved.account",
    }
    key = ", ".join(
        f"ifnull({columns[name]}, '') AS {name}" if name in grain else f"'' AS {name}" for name in columns
    )
    workspace.run(
        f"""
        CREATE TABLE used AS
        SELECT reserved.rowid AS reservation, {key}, terms.currency, due, terms.expected AS quoted,
          due = 0 AND terms.expected <> 0 AND NOT written_off AS failed,
          task_id IS NULL AND due <> 0 AS unnamed, dispatched_at,
          coalesce(terms.list_total, due) AS listed, statement_unit, unit_value, inside
        FROM reserved JOIN terms ON terms.id = reserved.terms
        LEFT JOIN cell_day ON dispatched_at >= cell_day.since AND dispatched_at < cell_day.until
        LEFT JOIN model_alias ON model_alias.model = terms.model
        WHERE NOT spare AND (inside OR (dispatched_at >= $before AND dispatched_at < $since))
        """,
        {"before": (since - period.grace).replace(tzinfo=None), "since": since.replace(tzinfo=None)},
    )


def _join_cells(workspace: Workspace, period: StatementPeriod) -> None:
    """Makes the table `cell`, and a line for each of its rows."""
    same = " AND ".join(f"bill.{name} = past.{name}" for name in get_args(Grain))
    workspace.run(
        f"""
        CREATE TABLE cell AS
        WITH bill AS (
          SELECT {KEY}, unit, sum(native) AS native, sum(tasks) AS tasks, min(place) AS place,
            list({{'place': place, 'file': file, 'row': "row"}} ORDER BY place) AS places
          FROM sum_row WHERE inside GROUP BY {KEY}, unit
        ), past AS (
          SELECT {KEY}, statement_unit AS unit, any_value(unit_value) AS unit_value FROM used
          WHERE inside AND statement_unit IS NOT NULL GROUP BY ALL HAVING count(DISTINCT unit_value) = 1
        ), valued AS (
          SELECT bill.*, coalesce(old.id, usual.id) AS worth,
            coalesce(old.currency, usual.currency) AS currency,
            money(native, coalesce(old.atto, usual.atto)) AS money
          FROM bill LEFT JOIN past ON past.unit = bill.unit AND {same}
          LEFT JOIN worth AS old ON old.unit = bill.unit AND old.written = past.unit_value
          LEFT JOIN worth AS usual ON usual.unit = bill.unit AND usual.written IS NULL
        ), billed AS (
          SELECT {KEY}, currency, sum(money) AS money, CAST(sum(tasks) AS BIGINT) AS billed_tasks,
            min(place) AS place, list_sort(flatten(list(places))) AS places,
            CASE WHEN count(*) = 1 THEN any_value(native) END AS native,
            CASE WHEN count(*) = 1 THEN any_value(unit) END AS unit,
            CASE WHEN count(*) = 1 THEN any_value(worth) END AS worth
          FROM valued GROUP BY {KEY}, currency
        ), expected AS (
          SELECT {KEY}, currency, sum(due) AS due, count(*) FILTER (due <> 0) AS expected_tasks,
            count(*) AS sent_tasks, max(dispatched_at) AS last_at, min(dispatched_at) AS first_at
          FROM used WHERE inside GROUP BY {KEY}, currency
        )
        SELECT row_number() OVER (ORDER BY {KEY}, currency) AS id, *
        FROM billed FULL JOIN expected USING ({KEY}, currency)
        """
    )
    workspace.run(
        f"""
        INSERT INTO line (category, place, currency, expected, billed, native, unit, worth, whole, gap, cell)
        SELECT CASE
            WHEN lacks_bill AND lacks_use AND (due IS NULL OR money IS NULL) THEN 'currency_mismatch'
            WHEN due IS NULL THEN 'not_in_ledger'
            WHEN ifnull(money, 0) = due THEN 'matched'
            WHEN money IS NULL AND first_at > $overdue THEN 'not_billed_yet'
            WHEN money IS NULL THEN 'not_billed'
            ELSE 'unexplained' END,
          place, currency, due, money, native, unit, worth, money,
          CASE WHEN due IS NOT NULL AND money IS NOT NULL AND money <> due THEN money - due END, id
        FROM (
          SELECT *, bool_or(money IS NULL AND due <> 0) OVER (PARTITION BY {KEY}) AS lacks_bill,
            bool_or(due IS NULL AND money <> 0) OVER (PARTITION BY {KEY}) AS lacks_use
          FROM cell
        ) ORDER BY id
        """,
        period.overdue,
    )


def _add_unreadable_rows(workspace: Workspace, usual: str) -> None:
    workspace.run(
        f"""
        INSERT INTO line (category, place, currency)
        SELECT 'invalid_row', rowid, CASE WHEN regexp_full_match(unit, '[A-Z]{{3}}') THEN unit ELSE ? END
        FROM charge WHERE problem IS NOT NULL AND problem.kind NOT IN ({IGNORED}) ORDER BY rowid
        """,
        [usual],
    )


def _tie_out_cells(workspace: Workspace) -> None:
    """Compares the lines with the reservations and rows that they were made from.

    Raises:
        KlingPricingError: they do not tie out, which is a bug in this library.
    """
    different = workspace.all(
        """
        WITH counted AS (
          SELECT id AS cell, unnest(places).place AS place FROM cell WHERE places IS NOT NULL
        ), side AS (
          SELECT 'expected' AS side, currency AS name, due AS amount FROM reserved
          JOIN terms ON terms.id = reserved.terms WHERE inside AND NOT spare
          UNION ALL SELECT 'expected', currency, -expected FROM line WHERE expected IS NOT NULL
          UNION ALL SELECT 'charged', worth.currency, money(sum(charge.native), any_value(atto))
          FROM counted JOIN charge ON charge.rowid = counted.place JOIN line ON line.cell = counted.cell
          JOIN worth ON worth.id = line.worth GROUP BY line.cell, worth.id, worth.currency
          UNION ALL SELECT 'charged', currency, -billed FROM line WHERE billed IS NOT NULL AND worth IS NOT NULL
          UNION ALL SELECT 'rows', unit, count(*) FROM sum_row WHERE inside GROUP BY unit
          UNION ALL SELECT 'rows', unit, -count(*) FROM counted JOIN charge ON charge.rowid = counted.place
          GROUP BY unit
        )
        SELECT side, name, sum(amount) FROM side GROUP BY side, name HAVING sum(amount) <> 0 ORDER BY ALL
        """
    )
    if different:
        problems = "; ".join(
            f"{side} in {name}: {format_decimal(from_nanos(int(amount)))}" for side, name, amount in different
        )
        raise KlingPricingError(
            f"the reconciliation's totals do not agree, so there is no report ({problems}); this is a bug in "
            "kling_pricing; please report it"
        )
