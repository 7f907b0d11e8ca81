"""The lines of a comparison of sums, and their totals, read from the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from kling_pricing.money import from_nanos
from kling_pricing.reconcile.aggregates.cell_messages import cell_messages
from kling_pricing.reconcile.categories import STANDING, Category
from kling_pricing.reconcile.model import Dimension, Line, Rows, Total
from kling_pricing.reconcile.problems import IGNORED
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

_DIMENSIONS: Mapping[Dimension, str] = {
    "all": "''",
    "category": "CAST(category AS VARCHAR)",
    "standing": STANDING,
    "project": "ifnull(cell.project, '')",
    "model": "ifnull(cell.model, '')",
    "day": "ifnull(cell.day, '')",
}
_SELECT = """
    SELECT category, nullif(day, ''), nullif(model, ''), nullif(resolution, ''), nullif(tier, ''),
      nullif(project, ''), nullif(account, ''),
      line.currency, line.expected, line.billed, line.cell, expected_tasks, sent_tasks,
      billed_tasks, places, line.place, file, "row", charge.problem, charge.may_charge,
      explanation.cause, is_exception
    FROM line LEFT JOIN cell ON cell.id = line.cell LEFT JOIN charge ON charge.rowid = line.place
    LEFT JOIN explanation ON explanation.id = line.explanation
"""


class CellLines:
    """The lines of a comparison of sums.

    Args:
        workspace: the database with the lines.
        statements: the statements.
        provider: the provider that bills.
    """

    def __init__(self, workspace: Workspace, statements: Sequence[Statement], provider: str) -> None:
        self._workspace = workspace
        self._statements = statements
        self._provider = provider

    def read(self, categories: Sequence[Category]) -> Iterator[Line]:
        """Yields the lines of these categories, or all lines; always in the same order."""
        where = f" WHERE category IN ({', '.join(map(repr, categories))})" if categories else ""
        unreadable = self._workspace.one("SELECT count(*) FROM line WHERE category = 'invalid_row'")
        order = " ORDER BY category, line.currency, day, model, resolution, tier, project, account, line.place"
        for row in self._workspace.rows(f"{_SELECT}{where}{order}"):
            yield self._line(unreadable, *row)

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines by currency and name."""
        rows = self._workspace.all(
            f"""
            SELECT {_DIMENSIONS[dimension]} AS name, line.currency, count(*), ifnull(sum(line.expected), 0),
              ifnull(sum(line.billed), 0)
            FROM line LEFT JOIN cell ON cell.id = line.cell
            GROUP BY name, line.currency
            ORDER BY line.currency, {"min(category)" if dimension == "category" else "name"}
            """
        )
        return [
            Total(name, currency, lines, *map(_money, (expected, billed, billed - expected)))
            for name, currency, lines, expected, billed in rows
        ]

    def rows(self) -> Rows:
        """Counts the rows of the statements; rows that another file has too are ignored."""
        ((read, invalid, ignored),) = self._workspace.all(
            f"SELECT count(*), count(*) FILTER (problem IS NOT NULL AND problem.kind NOT IN ({IGNORED})),"
            f" count(*) FILTER (problem.kind IN ({IGNORED})) FROM charge"
        )
        charges = self._workspace.one("SELECT count(*) FROM sum_row WHERE inside")
        return Rows(read, charges, 0, invalid, read - charges - invalid - ignored, ignored)

    def _line(
        self,
        unreadable: int,
        category: Category,
        day: str | None,
        model: str | None,
        resolution: str | None,
        tier: str | None,
        project: str | None,
        account: str | None,
        currency: str,
        expected: int | None,
        billed: int | None,
        cell: int | None,
        expected_tasks: int | None,
        sent_tasks: int | None,
        billed_tasks: int | None,
        places: Sequence[Mapping[str, Any]] | None,
        place: int | None,
        file: int | None,
        row: int | None,
        problem: Mapping[str, str] | None,
        may_charge: bool | None,  # noqa: FBT001 (a row of the query above)
        explanation: str | None,
        is_exception: bool,  # noqa: FBT001 (a row of the query above)
    ) -> Line:
        if places is None and place is not None:
            places = [{"place": place, "file": file, "row": row}]
        named = None if day is None else date.fromisoformat(day)
        line = Line(
            category=category,
            provider=self._provider,
            task_id=None,
            reservation_id=None,
            project=project,
            labels={},
            key=None,
            model=model,
            resolution=resolution,
            tier=tier,
            quantity=None,
            unit=None,
            table=None,
            currency=currency,
            quoted=None,
            list_total=None,
            due=None if expected is None else _money(expected),
            expected=None if expected is None else _money(expected),
            billed=None if billed is None else _money(billed),
            variance=_money((billed or 0) - (expected or 0)),
            booked=None,
            basis=None,
            submitted_at=None,
            billed_at=None if named is None else datetime(named.year, named.month, named.day, tzinfo=UTC),
            rows=tuple(self._row(**each) for each in places or ()),
            cause="",
            remedy="",
            day=named,
            expected_tasks=None if cell is None else expected_tasks or 0,
            billed_tasks=billed_tasks,
            account=account,
            may_charge=problem is None or may_charge is not False,
        )
        messages = cell_messages(
            line, sent_tasks or 0, explanation, problem, unreadable, is_exception=is_exception
        )
        return line._replace(
            cause=messages.cause,
            remedy=messages.remedy,
            shared_cause=messages.shared if messages.remedy else "",
        )

    def _row(self, place: int, file: int, row: int | None) -> str:
        of = self._statements[file]
        return f"{of.name}:{place - of.first + of.first_row if row is None else row}"


def _money(nanos: int) -> Decimal:
    return from_nanos(int(nanos))
