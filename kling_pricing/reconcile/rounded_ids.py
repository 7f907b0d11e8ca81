"""Refuses task ids that a spreadsheet has rounded: several tasks would become one that does not exist.

A spreadsheet keeps 15 digits of a number, and a program that reads a column of ids as floating-point numbers
keeps 53 bits, so that an id of 18 digits ends in zeros, is a multiple of a power of two, or has no more digits
than it takes to tell such numbers apart (as JavaScript writes them). One such id may be right; if every long id
of a file is like that, they were rounded. An id that a ledger has is right in any case.
"""

from __future__ import annotations

from collections.abc import Sequence

from kling_pricing.errors import StatementError
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_KEPT_DIGITS, _KEPT_BITS = 15, 53
_SURE_ZEROS = 6
"""An id that ends in so many zeros was rounded, whatever the other ids are."""
_IS_LONG = (
    f"length(task_id) BETWEEN {_KEPT_DIGITS + 1} AND 19 AND problem IS NULL"
    " AND regexp_full_match(task_id, '[1-9][0-9]+')"
)
_ENOUGH_IDS = 3
"""So many different ids cannot all end in zeros, or be multiples of a power of two, by chance."""


def refuse_rounded_ids(workspace: Workspace, statements: Sequence[Statement]) -> None:
    """Marks the rows of rounded ids as problems.

    Raises:
        StatementError: no long id of a file is intact.
    """
    if workspace.one(f"SELECT count(*) FROM charge WHERE {_IS_LONG}"):
        _mark_rounded(workspace, statements)
    if workspace.one("SELECT count(*) FROM charge WHERE problem.kind = 'rounded'"):
        _refuse_files(workspace, statements)


def _mark_rounded(workspace: Workspace, statements: Sequence[Statement]) -> None:
    """Marks the rows of long ids that were rounded."""
    digits = "replace(split_part(CAST(CAST(number AS DOUBLE) AS VARCHAR), 'e', 1), '.', '')"
    all_fit = "bool_and(is_decimal) OR bool_and(is_binary) OR bool_and(is_shortest)"
    workspace.run(
        f"""
        CREATE TABLE long_id AS
        WITH digits AS (
          SELECT rowid AS place, file, task_id, TRY_CAST(task_id AS UBIGINT) AS number FROM charge
          WHERE {_IS_LONG}
        )
        SELECT *, number % CAST(10 ** {_SURE_ZEROS} AS UBIGINT) = 0 AS is_sure,
          number % CAST(10 ** (length(task_id) - {_KEPT_DIGITS}) AS UBIGINT) = 0 AS is_decimal,
          length(bin(number)) > {_KEPT_BITS} AS is_large,
          is_large AND number % CAST(2 ** greatest(length(bin(number)) - {_KEPT_BITS}, 0) AS UBIGINT) = 0
            AS is_binary,
          is_large AND task_id = rpad({digits}, CAST(length(task_id) AS INTEGER), '0') AS is_shortest
        FROM digits
        """
    )
    suspected = workspace.all(
        f"""
        SELECT file, count(DISTINCT task_id) >= {_ENOUGH_IDS} AND ({all_fit})
        FROM long_id GROUP BY file HAVING bool_or(is_sure) OR {all_fit}
        """
    )
    for file, is_whole in suspected:
        known = "SELECT task_id FROM reserved WHERE task_id IS NOT NULL"
        some_known = workspace.one(
            f"SELECT bool_or(task_id IN ({known})) FROM long_id WHERE long_id.file = ?", [file]
        )
        workspace.run(
            f"""
            UPDATE charge SET problem = {{'column': ?, 'kind': 'rounded', 'text': charge.task_id}}
            FROM long_id WHERE charge.rowid = long_id.place AND long_id.file = ?
              AND long_id.task_id NOT IN ({known}) {"" if is_whole and not some_known else "AND is_sure"}
            """,
            [statements[file].task_column, file],
        )


def _refuse_files(workspace: Workspace, statements: Sequence[Statement]) -> None:
    """Refuses the first file of whose long ids none is intact."""
    refused = workspace.all(
        f"""
        SELECT file, arg_min("row", rowid), min(rowid), arg_min(problem.text, rowid), count(*)
        FROM charge WHERE problem.kind = 'rounded' AND file NOT IN (
          SELECT file FROM charge WHERE problem IS NULL AND length(task_id) > {_KEPT_DIGITS}
        ) GROUP BY file ORDER BY file
        """
    )
    for file, row, place, text, rows in refused:
        statement = statements[file]
        raise StatementError(
            f"{text!r}: a spreadsheet has rounded the ids ({rows} row{'s' * (rows > 1)}); export the "
            "statement again with the ids as text",
            file=statement.name,
            row=place - statement.first + statement.first_row if row is None else row,
            column=statement.task_column,
        )
