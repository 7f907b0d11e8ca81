"""A report as one HTML page that works offline: it runs no scripts and loads no fonts or images."""

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
from kling_pricing.reports.formatting import MONEY_DECIMALS, amount_text, decimals_of, number_text

MAX_ROWS = 200
"""The most rows of a table with a row per task that the page shows; the other formats have all of them."""


class RenderedCell(NamedTuple):
    """A cell as the page shows it.

    Attributes:
        text: its text.
        zeros: trailing zeros after the text, which align the decimal points of a column.
        css_class: `number`, `prose`, or empty.
        tone: the colour of its meaning; None if it has none.
    """

    text: str
    zeros: str
    css_class: str
    tone: Tone | None


class RenderedTable(NamedTuple):
    """A section as the page shows it."""

    section: Section
    columns: tuple[Column, ...]
    rows: list[list[RenderedCell]]
    totals: list[list[RenderedCell]]

    @property
    def left_out(self) -> int:
        """How many rows the page leaves out."""
        return 0 if self.section.length is None else self.section.length - len(self.rows)


def write(document: Document, folder: Path) -> None:
    """Writes `report.html`."""
    (folder / "report.html").write_text(page(document), encoding="utf-8", newline="\n")


def page(document: Document) -> str:
    """Returns the page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (an extra)

    environment = Environment(
        loader=PackageLoader("kling_pricing.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number_text": number_text, "amount_text": amount_text}
    return environment.get_template("report.html.j2").render(
        document=document,
        tables=[_table(section) for section in document.sections],
        panels=svg.panels,
        is_tall=svg.is_tall,
        is_wide=svg.is_wide,
        style=files("kling_pricing.reports").joinpath("templates", "report.css").read_text(encoding="utf-8"),
    )


def _table(section: Section) -> RenderedTable:
    places = [place for place, column in enumerate(section.columns) if column.on_page]
    columns = tuple(section.columns[place] for place in places)
    rows = section.rows() if section.length is None else islice(section.rows(), MAX_ROWS)
    cells = [[row[place] for place in places] for row in rows]
    totals = [[row[place] for place in places] for row in section.totals]
    decimals = [
        _decimals(column, [row[place] for row in [*cells, *totals]]) for place, column in enumerate(columns)
    ]
    return RenderedTable(
        section,
        columns,
        [_rendered_row(columns, decimals, row) for row in cells],
        [_rendered_row(columns, decimals, row) for row in totals],
    )


def _min_decimals(column: Column) -> int:
    return MONEY_DECIMALS if column.kind in {"amount", "percent"} else 0


def _decimals(column: Column, cells: Iterable[Cell]) -> int:
    return max([_min_decimals(column), *(decimals_of(cell) for cell in cells if isinstance(cell, Decimal))])


def _rendered_row(
    columns: Sequence[Column], decimals: Sequence[int], row: Sequence[Cell]
) -> list[RenderedCell]:
    return [
        _rendered_cell(column, places, cell)
        for column, places, cell in zip(columns, decimals, row, strict=True)
    ]


def _rendered_cell(column: Column, decimals: int, cell: Cell) -> RenderedCell:
    css_class = "number" if column.is_number else "prose" if column.kind == "prose" else ""
    if cell is None:
        return RenderedCell(column.missing, "", css_class, None)
    if isinstance(cell, str):
        display = column.display_names.get(cell)
        if display is None:
            return RenderedCell(cell, "", css_class, None)
        return RenderedCell(display.title, "", css_class, display.tone)
    if isinstance(cell, datetime):
        return RenderedCell(f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}", "", css_class, None)
    text, padded = number_text(cell, _min_decimals(column)), number_text(cell, decimals)
    return RenderedCell(text, padded.removeprefix(text), css_class, None)
