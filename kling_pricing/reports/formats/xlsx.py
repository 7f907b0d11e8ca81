"""A report as one XLSX workbook: one sheet per table, the summary first.

A number in XLSX is a binary double, so each amount has two columns: a number to sum and sort by, and text with
every digit.
Text is always written as text: a task named `=1+1` does not become a formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kling_pricing.money import format_decimal
from kling_pricing.reports.document import Column, Document, Kind, Row, Section

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

MAX_ROWS = 1_048_576
"""The most rows of a sheet; a longer table continues in another sheet."""

_MAX_CHARS = 32_767
_CREATED = datetime(2000, 1, 1)  # noqa: DTZ001 (a constant, so that bytes stay the same; XLSX has no time zones)
_WIDTHS: dict[Kind, int] = {
    "text": 18, "prose": 48, "day": 12, "labels": 30, "count": 10, "amount": 16, "quantity": 10, "percent": 12, "instant": 19,
}  # fmt: skip
_WIDE = {"reservation_id": 34, "task_id": 26, "labels": 30}
_VERDICT_COLORS = {"good": "#1A6244", "wait": "#735606", "bad": "#93341A"}
_KIND_FORMATS: dict[str, dict[str, Any]] = {
    "count": {"num_format": "#,##0"},
    "amount": {"num_format": "#,##0.00#######;[Red]-#,##0.00#######"},
    "quantity": {"num_format": "#,##0.#########"},
    "percent": {"num_format": "0.00"},
    "instant": {"num_format": "yyyy-mm-dd hh:mm:ss", "align": "left"},
    "exact": {"num_format": "@", "align": "right", "font_color": "#5B6668"},
}
"""The cell format of each kind of value; `exact` is an amount as text."""


def write(document: Document, folder: Path, *, max_rows: int = MAX_ROWS) -> None:
    """Writes `report.xlsx`.

    Args:
        document: the report.
        folder: the folder to write into.
        max_rows: the most rows of a sheet, including the heading.
    """
    from xlsxwriter import Workbook  # noqa: PLC0415 (an extra, and slow to load)

    options = {"constant_memory": True, "in_memory": False, "tmpdir": str(folder)}
    with Workbook(str(folder / "report.xlsx"), options) as workbook:
        workbook.set_properties({"title": document.title, "subject": document.subtitle, "created": _CREATED})
        formats = _add_formats(workbook)
        summary, *others = document.sections
        _write_summary(workbook, formats, document, summary)
        for section in others:
            _write_section(workbook, formats, section, max_rows)


class _CellFormats(NamedTuple):
    """The cell formats of a workbook."""

    title: Any
    subtitle: Any
    verdicts: dict[str, Any]
    heading: Any
    number_heading: Any
    strong: Any
    kinds: dict[str, Any]
    strong_kinds: dict[str, Any]


def _add_formats(workbook: Workbook) -> _CellFormats:
    heading = {
        "bold": True,
        "bg_color": "#1F3A3D",
        "font_color": "#FFFFFF",
        "valign": "vcenter",
        "text_wrap": True,
    }
    strong = {"bold": True, "top": 1}
    return _CellFormats(
        title=workbook.add_format({"bold": True, "font_size": 18}),
        subtitle=workbook.add_format({"font_color": "#5B6668"}),
        verdicts={
            tone: workbook.add_format({"bold": True, "font_size": 13, "font_color": color})
            for tone, color in _VERDICT_COLORS.items()
        },
        heading=workbook.add_format(heading),
        number_heading=workbook.add_format({**heading, "align": "right"}),
        strong=workbook.add_format(strong),
        kinds={kind: workbook.add_format(properties) for kind, properties in _KIND_FORMATS.items()},
        strong_kinds={
            kind: workbook.add_format({**strong, **properties}) for kind, properties in _KIND_FORMATS.items()
        },
    )


def _write_summary(workbook: Workbook, formats: _CellFormats, document: Document, section: Section) -> None:
    """Writes the first sheet: header, verdict, figures, and the first table."""
    sheet = workbook.add_worksheet("Summary")
    sheet.hide_gridlines(2)
    _set_up(sheet, section.columns)
    row = _texts(
        sheet,
        0,
        [
            (document.title, formats.title),
            (document.subtitle, formats.subtitle),
            ("", None),
            (document.verdict.headline, formats.verdicts[document.verdict.tone]),
            (document.verdict.about, None),
            ("", None),
            *((f"{fact.title}: {fact.text}", None) for fact in document.facts),
            ("", None),
        ],
    )
    for equation in document.equations:
        for figure in equation.figures:
            sheet.write_string(row, 0, figure.title, formats.strong)
            sheet.write_number(row, 1, figure.amount, formats.strong_kinds["amount"])
            sheet.write_string(row, 2, figure.unit, formats.strong)
            sheet.write_string(row, 3, format_decimal(figure.amount), formats.strong_kinds["exact"])
            sheet.write_string(row, 4, figure.about, formats.subtitle)
            row += 1
        row += 1
    row = _texts(sheet, row, [(section.title, formats.title), (section.about, formats.subtitle)])
    _write_headings(sheet, formats, section.columns, row)
    for cells in section.rows():
        row += 1
        _write_row(sheet, section.columns, cells, row, None, formats.kinds)
    for cells in section.totals:
        row += 1
        _write_row(sheet, section.columns, cells, row, formats.strong, formats.strong_kinds)


def _texts(sheet: Worksheet, row: int, texts: Iterable[tuple[str, Any]]) -> int:
    for text, text_format in texts:
        sheet.write_string(row, 0, text, text_format)
        row += 1
    return row


def _write_section(workbook: Workbook, formats: _CellFormats, section: Section, max_rows: int) -> None:
    """Writes a table on its own sheet, or on several if it has too many rows for one."""
    rows = iter(section.rows())
    row = next(rows, None)
    last = max_rows - len(section.totals)
    number = 1
    while row is not None or number == 1:
        sheet = workbook.add_worksheet(section.title if number == 1 else f"{section.title} {number}")
        _set_up(sheet, section.columns)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        _write_headings(sheet, formats, section.columns, 0)
        place = 1
        while row is not None and place < last:
            _write_row(sheet, section.columns, row, place, None, formats.kinds)
            row = next(rows, None)
            place += 1
        sheet.autofilter(0, 0, max(place - 1, 1), len(list(_places(section.columns))) - 1)
        number += 1
    for total in section.totals:
        _write_row(sheet, section.columns, total, place, formats.strong, formats.strong_kinds)
        place += 1


def _write_headings(sheet: Worksheet, formats: _CellFormats, columns: Sequence[Column], place: int) -> None:
    sheet.set_row(place, 30)
    for index, (column, exact) in enumerate(_places(columns)):
        title = f"{column.title}, exactly" if exact else column.title
        number = column.is_number
        sheet.write_string(place, index, title, formats.number_heading if number else formats.heading)


def _write_row(
    sheet: Worksheet,
    columns: Sequence[Column],
    row: Row,
    place: int,
    text_format: Any,
    formats: Mapping[str, Any],
) -> None:
    """Writes one row; `text_format` applies to text and to empty cells, and may be None."""
    index = 0
    for column, cell in zip(columns, row, strict=True):
        cell_format = formats.get(column.kind, text_format)
        if cell is None:
            if column.missing:
                sheet.write_string(place, index, column.missing, text_format)
            elif text_format is not None:
                sheet.write_blank(place, index, None, cell_format)
        elif isinstance(cell, str):
            display = column.display_names.get(cell)
            sheet.write_string(
                place, index, cell[:_MAX_CHARS] if display is None else display.title, text_format
            )
        elif isinstance(cell, datetime):
            sheet.write_datetime(place, index, cell.astimezone(UTC).replace(tzinfo=None), cell_format)
        else:
            sheet.write_number(place, index, cell, cell_format)
        index += 1
        if column.kind == "amount":
            if isinstance(cell, Decimal):
                sheet.write_string(place, index, format_decimal(cell), formats["exact"])
            index += 1


def _places(columns: Sequence[Column]) -> Iterator[tuple[Column, bool]]:
    """Returns the columns of a sheet; each amount has a second one, for its exact text."""
    for column in columns:
        yield column, False
        if column.kind == "amount":
            yield column, True


def _set_up(sheet: Worksheet, columns: Sequence[Column]) -> None:
    """Sets the widths of the columns, and the print layout."""
    for index, (column, _) in enumerate(_places(columns)):
        sheet.set_column(index, index, _WIDE.get(column.name, _WIDTHS[column.kind]))
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&L&A&R&P / &N")
