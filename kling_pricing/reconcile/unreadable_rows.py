"""Rows that cannot be read: each is joined to its task by its id, so that a task has one line.

An unreadable row is not a missing one: its task may be charged, so no remedy may free the money of the task.
The line of such a task has the category `invalid_row`, whatever its other rows say.

The table `unread` has one row for each such task, and one for each row whose task is not known:

| column | meaning |
|---|---|
| id | number; `line.unread` refers to it |
| task_id | the task; NULL: the row names no task that the ledgers or other rows have |
| place | the first of its rows in `charge` |
| places | all of them, as `merged.places` |
| problem, unit | of the first row |
| may_charge | whether one of the rows may be a charge |
| is_blind | whether the row may charge any task, because its id is lost |
"""

from __future__ import annotations

from kling_pricing.reconcile.charge_sql import PROBLEM
from kling_pricing.reconcile.files.file_reader import ID_SEPARATOR
from kling_pricing.reconcile.id_forms import bare_id, unguarded
from kling_pricing.reconcile.mangled_ids import KNOWN_TASKS
from kling_pricing.reconcile.problems import IGNORED
from kling_pricing.reconcile.staging import literal, matches
from kling_pricing.reconcile.workspace import Workspace

_EXPONENT = r"[1-9]([.,][0-9]+)?[eE][+]?[0-9]{1,2}"
_FULL_PRECISION = 128
"""How far a number of at most 20 digits may be from the double that is nearest to it."""

_FITS_ROUNDED = f"""
    SELECT place, task_id FROM (
      SELECT place, CASE WHEN {matches("written", _EXPONENT)} THEN replace(written, ',', '.')
        WHEN {matches("written", "[0-9]+([.]0)?")} THEN split_part(written, '.', 1) END AS number,
        split_part(lower(number), 'e', 1) AS digits,
        TRY_CAST(number AS DOUBLE) AS rounded,
        CASE WHEN contains(lower(number), 'e')
          THEN 10.0 ** (
            TRY_CAST(split_part(lower(number), 'e', 2) AS INTEGER) - length(split_part(digits, '.', 2))
          )
          ELSE 10.0 ** (length(digits) - length(rtrim(digits, '0'))) END AS step
      FROM unread_row WHERE problem.kind = 'rounded'
    ) AS lost JOIN ({KNOWN_TASKS}) AS known
      ON TRY_CAST(task_id AS DOUBLE) BETWEEN rounded - greatest(step / 2, {_FULL_PRECISION})
        AND rounded + greatest(step / 2, {_FULL_PRECISION})
    WHERE {matches("task_id", "[1-9][0-9]{14,19}")}
"""
"""The tasks whose ids may have become a rounded one."""


_NOTHING_UNREAD = f"""
    CREATE TABLE unread (
      id BIGINT, task_id VARCHAR, place BIGINT, places STRUCT(place BIGINT, file USMALLINT, "row" BIGINT)[],
      problem {PROBLEM}, unit VARCHAR, may_charge BOOLEAN, is_blind BOOLEAN
    )
"""
"""The table of a statement that can be read in full, which is made in less time."""


def add_unreadable(workspace: Workspace, usual: str) -> None:
    """Gives the rows that cannot be read to the lines of their tasks, or lines of their own.

    Args:
        workspace: the database with the lines.
        usual: the currency of lines without a currency of their own.
    """
    workspace.run("ALTER TABLE line ADD COLUMN unread BIGINT")
    workspace.run(
        f"""
        CREATE TABLE unread_row AS
        SELECT rowid AS place, file, "row", problem, unit, may_charge, task_id AS written FROM charge
        WHERE problem IS NOT NULL AND problem.kind NOT IN ({IGNORED})
        """
    )
    if not workspace.one("SELECT count(*) FROM unread_row"):
        workspace.run(_NOTHING_UNREAD)
        return
    workspace.run(
        f"""
        CREATE TABLE unread AS
        WITH text AS (
          SELECT place, unnest(string_split(written, {literal(ID_SEPARATOR)})) AS text
          FROM unread_row
        ), possible AS (
          SELECT place, text AS task_id FROM text WHERE text <> ''
          UNION SELECT place, {bare_id(unguarded("text"))} FROM text
        ), known AS (
          SELECT task_id FROM possible
          WHERE task_id IN ({KNOWN_TASKS}) OR task_id IN (SELECT task_id FROM charge WHERE problem IS NULL)
        ), fitting AS (
          SELECT place, task_id FROM possible SEMI JOIN known USING (task_id)
          UNION SELECT place, task_id FROM unread_row JOIN ({KNOWN_TASKS}) AS known
            ON ltrim(task_id, '0') = written WHERE problem.kind = 'zeros'
          UNION {_FITS_ROUNDED}
        ), task AS (
          SELECT place, any_value(task_id) AS task_id FROM fitting GROUP BY place HAVING count(*) = 1
        )
        SELECT row_number() OVER (ORDER BY min(place)) AS id, task_id, min(place) AS place,
          list({{'place': place, 'file': file, 'row': "row"}} ORDER BY place) AS places,
          arg_min(problem, place) AS problem, arg_min(unit, place) AS unit, bool_or(may_charge) AS may_charge,
          task_id IS NULL AND bool_or(
            written = '' OR contains(written, {literal(ID_SEPARATOR)})
              OR problem.kind IN ('rounded', 'zeros', 'long', 'words', 'no_id', 'date_id')
          ) AS is_blind
        FROM unread_row LEFT JOIN task USING (place)
        GROUP BY task_id, CASE WHEN task_id IS NULL THEN place END
        """
    )
    workspace.run(
        """
        UPDATE line SET category = 'invalid_row', gap = NULL, unread = hit.id,
          place = CASE WHEN category = 'timing' AND billed IS NULL THEN hit.place ELSE line.place END
        FROM (
          SELECT line.rowid AS line, unread.id, unread.place FROM line
          LEFT JOIN reserved ON reserved.rowid = line.reservation
          LEFT JOIN charge ON charge.rowid = line.place
          JOIN unread ON unread.task_id = coalesce(reserved.task_id, charge.task_id)
        ) AS hit WHERE line.rowid = hit.line
        """
    )
    workspace.run(
        """
        INSERT INTO line (category, place, reservation, currency, unread)
        SELECT 'invalid_row', place, owned.reservation, coalesce(
            owned.currency, CASE WHEN regexp_full_match(unread.unit, '[A-Z]{3}') THEN unread.unit ELSE ? END
          ), unread.id
        FROM unread LEFT JOIN (
          SELECT reserved.rowid AS reservation, task_id, terms.currency FROM reserved
          JOIN terms ON terms.id = reserved.terms WHERE NOT spare
        ) AS owned USING (task_id)
        WHERE unread.id NOT IN (SELECT unread FROM line WHERE unread IS NOT NULL)
        """,
        [usual],
    )
