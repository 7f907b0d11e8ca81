"""Rows of sums that give the same cell: copies of other files count once, and repeated rows are refused."""

from __future__ import annotations

from collections.abc import Sequence

from kling_pricing.reconcile.problems import LEFT_OUT
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_WRITTEN = "unit, billed_at, model, resolution, facts"
"""The columns of `written_row` that say which tasks a row adds up."""


def refuse_repeated(workspace: Workspace, statements: Sequence[Statement]) -> None:
    """Refuses rows of a cell that another row gives already, and leaves out copies in other files.

    A cell that several files give in the same way counts once. If a mapping allows several rows per cell, the
    rows of each file are compared as a whole.
    """
    workspace.run(
        "CREATE TABLE written_row AS SELECT rowid AS place, file, billed_at, stated.model AS model,"
        " stated.resolution AS resolution, stated.facts[1:3] AS facts, unit, native,"
        " stated.facts[4] AS tasks FROM charge WHERE problem IS NULL"
    )
    workspace.run("CREATE TABLE repeated_row (place BIGINT, first BIGINT, kind VARCHAR)")
    strict = [
        file
        for file, statement in enumerate(statements)
        if statement.mapping.aggregates is not None and not statement.mapping.aggregates.several_rows
    ]
    if strict:
        workspace.run(
            f"""
            INSERT INTO repeated_row SELECT place, first, 'repeated' FROM (
              SELECT place, file, min(place) OVER (PARTITION BY file, {_WRITTEN}) AS first FROM written_row
            ) WHERE place <> first AND file IN ({", ".join(map(str, strict))})
            """
        )
    if len(statements) > 1:
        workspace.run(_COPIES)
    workspace.run(
        "CREATE TABLE given_sums (file USMALLINT, name VARCHAR, first BIGINT, first_row BIGINT, key VARCHAR)"
    )
    workspace.insert(
        "given_sums",
        [
            (file, each.name, each.first, each.first_row, entry.keys[0].column)
            for file, each in enumerate(statements)
            if (entry := each.mapping.aggregates) is not None
        ],
    )
    workspace.run(
        """
        UPDATE charge SET problem = {
          'column': CASE WHEN marked.kind = 'repeated' THEN marked.key ELSE '' END,
          'kind': marked.kind, 'text': marked.text
        }
        FROM (
          SELECT repeated_row.place, kind, key,
            name || ':' || coalesce(other."row", first_place - given_sums.first + first_row) AS text
          FROM (
            SELECT place, kind, first AS first_place FROM repeated_row
            QUALIFY row_number() OVER (PARTITION BY place ORDER BY kind DESC, first) = 1
          ) AS repeated_row JOIN charge AS other ON other.rowid = first_place
          JOIN given_sums ON given_sums.file = other.file
        ) AS marked WHERE charge.rowid = marked.place
        """
    )


_COPIES = f"""
    INSERT INTO repeated_row
    WITH summed AS (
      SELECT {_WRITTEN}, file, min(place) AS place, list(place) AS places,
        list_sort(list((native, tasks))) AS amounts
      FROM written_row GROUP BY {_WRITTEN}, file
    )
    SELECT unnest(later.places), earlier.place,
      CASE WHEN later.amounts = earlier.amounts THEN '{LEFT_OUT}' ELSE 'repeated' END
    FROM summed AS later JOIN (
      SELECT {_WRITTEN}, min(file) AS file, arg_min(place, file) AS place, arg_min(amounts, file) AS amounts
      FROM summed GROUP BY {_WRITTEN}
    ) AS earlier
      ON later.unit = earlier.unit AND later.billed_at IS NOT DISTINCT FROM earlier.billed_at
      AND (later.model, later.resolution, later.facts) = (earlier.model, earlier.resolution, earlier.facts)
      AND later.file > earlier.file
"""
"""The rows of cells that an earlier file gives too: copies, or other amounts."""
