"""A report as one page that opens offline, without script, font or picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kling_pricing.reports import svg
from kling_pricing.reports.charts import Tone
from kling_pricing.reports.document import Cell, Column, Document, Section
from kling_pricing.reports.formatting import decimals_of, grouped

MAX_ROWS = 200
"""Rows of a table of tasks on the page; the sheets and files have all of them."""

_MONEY_DECIMALS = 2


class Shown(NamedTuple):
    """A cell as it is printed.

    Attributes:
        text: what stands there.
        zeros: needless zeros after it, which keep the points of a column below each other.
        look: `number`, `prose`, or nothing.
        tone: the colour of its meaning; None: it has none.
    """

    text: str
    zeros: str
    look: str
    tone: Tone | None


class Table(NamedTuple):
    """A section as it is printed."""

    section: Section
    columns: tuple[Column, ...]
    rows: list[list[Shown]]
    totals: list[list[Shown]]

    @property
    def left_out(self) -> int:
        """How many rows are not on the page."""
        return 0 if self.section.length is None else self.section.length - len(self.rows)


def write(document: Document, folder: Path) -> None:
    """Writes `report.html`."""
    (folder / "report.html").write_text(page(document), encoding="utf-8", newline="\n")


def page(document: Document) -> str:
    """The page, as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (an extra)

    environment = Environment(
        loader=PackageLoader("kling_pricing.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = grouped
    return environment.get_template("report.html.j2").render(
        document=document,
        tables=[_table(each) for each in document.sections],
        panels=svg.panels,
        is_tall=svg.is_tall,
        is_wide=svg.is_wide,
        style=files("kling_pricing.reports").joinpath("templates", "report.css").read_text(encoding="utf-8"),
    )


def _table(section: Section) -> Table:
    places = [place for place, column in enumerate(section.columns) if column.on_page]
    columns = tuple(section.columns[place] for place in places)
    rows = section.rows() if section.length is None else islice(section.rows(), MAX_ROWS)
    cells = [[row[place] for place in places] for row in rows]
    totals = [[row[place] for place in places] for row in section.totals]
    decimals = [
        _decimals(column, [row[place] for row in [*cells, *totals]]) for place, column in enumerate(columns)
    ]
    return Table(
        section, columns, *([_shown(columns, decimals, row) for row in part] for part in (cells, totals))
    )


def _decimals(column: Column, cells: Iterable[Cell]) -> int:
    least = _MONEY_DECIMALS if column.kind in {"amount", "percent"} else 0
    return max([least, *(decimals_of(cell) for cell in cells if isinstance(cell, Decimal))])


def _shown(columns: Sequence[Column], decimals: Sequence[int], row: Sequence[Cell]) -> list[Shown]:
    return [_cell(column, places, cell) for column, places, cell in zip(columns, decimals, row, strict=True)]


def _cell(column: Column, decimals: int, cell: Cell) -> Shown:
    look = "number" if column.is_number else "prose" if column.kind == "prose" else ""
    if cell is None:
        return Shown(column.missing, "", look, None)
    if isinstance(cell, str):
        word = column.words.get(cell)
        return Shown(cell, "", look, None) if word is None else Shown(word.title, "", look, word.tone)
    if isinstance(cell, datetime):
        return Shown(f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}", "", look, None)
    least = _MONEY_DECIMALS if column.kind in {"amount", "percent"} else 0
    text, padded = grouped(cell, least), grouped(cell, decimals)
    return Shown(text, padded.removeprefix(text), look, None)
