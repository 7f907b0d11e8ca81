"""The rows of sheets as markup, and workbooks to which these rows are added after XlsxWriter has written them.

XlsxWriter needs several times as long to write the same rows, because it describes every cell anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from shutil import copyfileobj
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from kling_pricing.reports.cell_conversion import convert_rows
from kling_pricing.reports.document import Cell, Row
from kling_pricing.reports.formats.sheet_layout import LINE_HEIGHT, SheetColumn, SheetLayout, written_cell

_SPECIAL = re.compile(r"[&<>\x00-\x08\x0b-\x1f\ufffe\uffff]|_x[0-9a-fA-F]{4}_")
"""Text that is not written into the markup as it is."""

_CODES = re.compile(r"_(?=x[0-9a-fA-F]{4}_)|[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""Characters that are written as a code, such as `_x0007_`; also a `_` that would start such a code."""

_EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 (sheets have no time zones)
"""Day 0 of instants after February 1900."""

_DAY_S = 86_400
_ROW = b"<row "


class _CellMarkup(NamedTuple):
    """The markup of a cell after its reference, empty if there is no cell; and the number of its lines."""

    markup: str
    lines: int


def row_markup(
    layout: SheetLayout,
    formats: Mapping[str, Any],
    one_line: Mapping[str, Any],
    rows: Iterable[Row],
    place: int,
) -> Iterator[str]:
    """Yields the markup of rows.

    Args:
        layout: the columns of the sheet.
        formats: kind of value -> cell format, of the printed columns.
        one_line: the same of the other columns, whose text stays on one line.
        rows: the rows.
        place: the place of the first row on the sheet, counted from 0.
    """
    from xlsxwriter.utility import xl_col_to_name  # noqa: PLC0415 (an extra)

    letters = [xl_col_to_name(index) for index in range(len(layout.columns))]
    converters: list[Callable[[Cell], _CellMarkup]] = [
        partial(
            _cell_markup,
            column,
            formats if index < layout.printed else one_line,
            width if index < layout.printed else None,
        )
        for index, (column, width) in enumerate(zip(layout.columns, layout.widths, strict=True))
    ]
    columns = [column.column for column in layout.columns]
    cells_of = itemgetter(*(column.place for column in layout.columns), 0)
    raw = (cells_of(row)[:-1] for row in rows)
    for number, cells in enumerate(convert_rows(columns, raw, converters), start=place + 1):
        lines = max(cell.lines for cell in cells)
        height = f' ht="{lines * LINE_HEIGHT}" customHeight="1"' if lines > 1 else ""
        markup = "".join(
            [f'<c r="{letter}{number}"{cell}' for letter, (cell, _) in zip(letters, cells, strict=True) if cell]
        )
        yield f'<row r="{number}"{height}>{markup}</row>'


def _cell_markup(column: SheetColumn, formats: Mapping[str, Any], width: int | None, cell: Cell) -> _CellMarkup:
    """Returns the markup of a cell; without a width, its text stays on one line."""
    cell = column.shown(cell)
    kind, value = written_cell(column, cell)
    if value is None:
        return _CellMarkup("", 1)
    lines = 1 if width is None else column.lines_in(cell, width)
    style = formats[kind]._get_xf_index()  # noqa: SLF001 (XlsxWriter has no public function for the number)
    if not isinstance(value, str):
        number = _days(value) if isinstance(value, datetime) else value
        return _CellMarkup(f' s="{style}"><v>{number:.16G}</v></c>', lines)
    text = _escaped(value) if _SPECIAL.search(value) else value
    space = ' xml:space="preserve"' if text[:1].isspace() or text[-1:].isspace() else ""
    return _CellMarkup(f' s="{style}" t="inlineStr"><is><t{space}>{text}</t></is></c>', lines)


def _days(at: datetime) -> float:
    """Returns an instant as the number of days with which spreadsheets count."""
    since = at - _EPOCH
    return since.days + (since.seconds + since.microseconds / 10**6) / _DAY_S


def _escaped(text: str) -> str:
    """Returns a text for markup: control characters as codes, and special characters as entities."""
    coded = _CODES.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
    return coded.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def add_rows(template: Path, rows: Mapping[str, Path], path: Path) -> None:
    """Writes a workbook like another one, with more rows on some of its sheets.

    Args:
        template: the other workbook, in which each of these sheets has at least two rows, the first of which
            has the headings.
        rows: name of a sheet in the workbook, such as `xl/worksheets/sheet2.xml` -> the markup of its further
            rows, which come after the headings.
        path: the new workbook.
    """
    with ZipFile(template) as source, ZipFile(path, "w", ZIP_DEFLATED) as workbook:
        for entry in source.infolist():
            content, more = source.read(entry), rows.get(entry.filename)
            copy = ZipInfo(entry.filename, entry.date_time)
            copy.compress_type, copy.external_attr = ZIP_DEFLATED, entry.external_attr
            copy.file_size = len(content) + (0 if more is None else more.stat().st_size)
            with workbook.open(copy, "w") as file:
                if more is None:
                    file.write(content)
                    continue
                second = content.index(_ROW, content.index(_ROW) + 1)
                file.write(content[:second])
                with more.open("rb") as markup:
                    copyfileobj(markup, file, 1 << 20)
                file.write(content[second:])
