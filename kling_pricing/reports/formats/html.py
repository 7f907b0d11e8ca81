"""A report as HTML pages that work offline: they load nothing, and are complete without their script.

`report.html` has every table. A table with very many rows goes on in further pages, such as `lines_2.html`.
The script of a page sorts and filters its tables; its digest in the page's policy lets no other script run.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from kling_pricing.reports import svg
from kling_pricing.reports.cell_conversion import convert_rows
from kling_pricing.reports.document import Cell, Column, Document, Kind, Section
from kling_pricing.reports.formatting import MONEY_DECIMALS, amount_text, decimals_of, number_text

MAX_ROWS = 5_000
"""The most rows of a table on a page; browsers become slow with more. The rest are on further pages."""

_CLASSES: dict[Kind, str] = {"prose": "p", "day": "t", "instant": "t"}
"""The kind of a column that does not hold numbers -> the CSS class of its cells."""

_LONG_CHARS = 20
"""The length of a text from which on it may be broken anywhere; shorter text stays on one line of paper."""

_MAX_HALF_COLUMNS = 6
"""The most columns of a table that takes half the width of paper."""


class RenderedTable(NamedTuple):
    """A part of a section as a page shows it.

    Attributes:
        section: the section.
        columns: the columns that pages show.
        rows: the markup of the rows.
        totals: the markup of the totals.
        number: the number of the page on which it is, from 1.
        first: the number of its first row, from 1.
        pages: the file names of all pages of the section.
    """

    section: Section
    columns: tuple[Column, ...]
    rows: list[str]
    totals: list[str]
    number: int
    first: int
    pages: list[str]

    @property
    def last(self) -> int:
        """The number of its last row."""
        return self.first + len(self.rows) - 1

    @property
    def is_half(self) -> bool:
        """Whether half the width of paper is enough."""
        return len(self.columns) <= _MAX_HALF_COLUMNS and all(column.kind != "prose" for column in self.columns)

    @property
    def is_without_columns_in_print(self) -> bool:
        """Whether the printed table has fewer columns than the one on the screen."""
        return any(not column.in_print for column in self.columns)


def page_names(document: Document, max_rows: int = MAX_ROWS) -> list[str]:
    """Returns the file names of all pages of a report."""
    return [
        "report.html",
        *(name for section in document.sections for name in _names_of(section, max_rows)[1:]),
    ]


def write(document: Document, folder: Path, *, max_rows: int = MAX_ROWS) -> None:
    """Writes `report.html`, and a further page for each `max_rows` more rows of a table."""
    pages = _Pages(document)
    first = []
    for section in document.sections:
        names = _names_of(section, max_rows)
        tables = _tables(section, names, max_rows)
        first.append(next(tables))
        for name, table in zip(names[1:], tables, strict=True):
            _save(folder / name, pages.further(table))
    _save(folder / "report.html", pages.main(first))


def page(document: Document) -> str:
    """Returns the first page as HTML."""
    tables = (next(_tables(section, _names_of(section, MAX_ROWS), MAX_ROWS)) for section in document.sections)
    return _Pages(document).main(list(tables))


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _names_of(section: Section, max_rows: int) -> list[str]:
    """Returns the file names of the pages of a section, the first page of the report first."""
    count = max(-(-(section.length or 0) // max_rows), 1)
    return ["report.html", *(f"{section.name}_{number}.html" for number in range(2, count + 1))]


class _Pages:
    """Renders the pages of a report."""

    def __init__(self, document: Document) -> None:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (an extra)

        environment = Environment(
            loader=PackageLoader("kling_pricing.reports"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"number_text": number_text, "amount_text": amount_text, "class_of": class_of}
        self._environment = environment
        script = _template_file("report.js")
        digest = b64encode(sha256(script.encode()).digest()).decode()
        self._common: dict[str, Any] = {
            "document": document,
            "style": palette() + _template_file("report.css"),
            "script": script,
            "script_source": f"'sha256-{digest}'",
        }

    def main(self, tables: Sequence[RenderedTable]) -> str:
        """Returns the first page."""
        return self._environment.get_template("report.html.j2").render(
            groups=[(half, list(group)) for half, group in groupby(tables, lambda table: table.is_half)],
            panels=svg.panels,
            is_tall=svg.is_tall,
            is_wide=svg.is_wide,
            **self._common,
        )

    def further(self, table: RenderedTable) -> str:
        """Returns a further page of a table."""
        return self._environment.get_template("rows.html.j2").render(table=table, **self._common)


def palette() -> str:
    """Returns the colours and fonts as CSS, light and dark, which the pages of the server share."""
    return _template_file("palette.css")


def _template_file(name: str) -> str:
    return files("kling_pricing.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _tables(section: Section, names: list[str], max_rows: int) -> Iterator[RenderedTable]:
    """Yields the part of a section for each of its pages, at least one."""
    places = [place for place, column in enumerate(section.columns) if column.on_page]
    columns = tuple(section.columns[place] for place in places)
    totals = [[row[place] for place in places] for row in section.totals]
    rows = iter(section.rows())
    limit = None if section.length is None else max_rows
    first = 1
    for number, _ in enumerate(names, start=1):
        cells = [[row[place] for place in places] for row in islice(rows, limit)]
        decimals = [
            _decimals(column, [row[place] for row in [*cells, *totals]]) for place, column in enumerate(columns)
        ]
        yield RenderedTable(
            section,
            columns,
            list(_rows(columns, decimals, cells)),
            list(_rows(columns, decimals, totals)),
            number,
            first,
            names,
        )
        first += len(cells)


def _min_decimals(column: Column) -> int:
    return MONEY_DECIMALS if column.kind in {"amount", "percent"} else 0


def _decimals(column: Column, cells: Iterable[Cell]) -> int:
    amounts = {cell for cell in cells if isinstance(cell, Decimal)}
    return max([_min_decimals(column), *map(decimals_of, amounts)])


def class_of(column: Column) -> str:
    """Returns the CSS classes of the cells of a column."""
    kind = "n" if column.is_number else _CLASSES.get(column.kind, "")
    return kind if column.in_print else f"{kind} screen".lstrip()


def _rows(columns: Sequence[Column], decimals: Iterable[int], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yields rows as markup."""
    converters = [partial(_cell, column, places) for column, places in zip(columns, decimals, strict=True)]
    for cells in convert_rows(columns, rows, converters):
        yield f"<tr>{''.join(cells)}</tr>"


def _cell(column: Column, decimals: int, cell: Cell) -> str:
    """Returns a cell as markup."""
    css_class = class_of(column)
    if isinstance(cell, str) and column.kind != "prose" and len(cell) > _LONG_CHARS:
        css_class = f"l {css_class}".rstrip()
    opening = f'<td class="{css_class}">' if css_class else "<td>"
    return f"{opening}{_content(column, decimals, cell)}</td>"


def _content(column: Column, decimals: int, cell: Cell) -> str:
    """Returns a cell's content as markup; zeros that only align the decimal points are paler."""
    if cell is None:
        return escape(column.missing)
    if isinstance(cell, str):
        display = column.display_names.get(cell)
        if display is None:
            return escape(cell)
        return f'<span class="chip {display.tone}">{escape(display.title)}</span>'
    if isinstance(cell, datetime):
        return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    text, padded = number_text(cell, _min_decimals(column)), number_text(cell, decimals)
    zeros = padded.removeprefix(text)
    return f'{text}<span class="zeros">{zeros}</span>' if zeros else text
