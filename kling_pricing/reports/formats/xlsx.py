"""A report as one XLSX workbook: one sheet per table, the summary first.

A number in XLSX is a binary double, so each amount has two columns: a number to sum and sort by, and text with
every digit. A total is a formula over the numbers above it, beside the exact total as text.
Text is always written as text: a task named `=1+1` does not become a formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from kling_pricing.money import format_decimal
from kling_pricing.reports.document import Document, Equation, Row, Section
from kling_pricing.reports.formats.row_markup import add_rows, row_markup
from kling_pricing.reports.formats.sheet_layout import (
    LINE_HEIGHT,
    SheetColumn,
    SheetLayout,
    layout_of,
    written_cell,
)
from kling_pricing.reports.text_width import width_of
from kling_pricing.temporary import temporary_folder

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

MAX_ROWS = 1_048_576
"""The most rows of a sheet; a longer table continues in another sheet."""

_A4 = 9
_CREATED = datetime(2000, 1, 1)  # noqa: DTZ001 (a constant, so that bytes stay the same; XLSX has no time zones)
_VERDICT_COLORS = {"good": "#1A6244", "wait": "#735606", "bad": "#93341A"}
_TEXT = {"text_wrap": True, "valign": "top"}
_KIND_FORMATS: dict[str, dict[str, Any]] = {
    "text": {**_TEXT, "indent": 1},
    "prose": {**_TEXT, "indent": 1},
    "labels": {**_TEXT, "indent": 1},
    "day": {"num_format": "yyyy-mm-dd", "align": "left", "valign": "top", "indent": 1},
    "count": {"num_format": "#,##0", "valign": "top"},
    "amount": {"num_format": "#,##0.00#######;[Red]-#,##0.00#######", "valign": "top"},
    "quantity": {"num_format": "General", "valign": "top"},
    "percent": {"num_format": "0.00", "valign": "top"},
    "instant": {"num_format": "yyyy-mm-dd hh:mm:ss", "align": "left", "valign": "top", "indent": 1},
    "exact": {"num_format": "@", "align": "right", "indent": 1, "font_color": "#5B6668", "valign": "top"},
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

    with temporary_folder("kling-pricing-sheets-", gettempdir()) as work:
        template, rows = work / "workbook.xlsx", _RowFiles(work)
        options = {"constant_memory": True, "in_memory": False, "tmpdir": str(work)}
        with Workbook(str(template), options) as workbook:
            workbook.set_properties(
                {"title": document.title, "subject": document.subtitle, "created": _CREATED}
            )
            formats = _add_formats(workbook)
            summary, *others = document.sections
            _write_summary(workbook, formats, document, summary)
            for section in others:
                _write_section(workbook, formats, section, max_rows, rows)
        add_rows(template, rows.paths, folder / "report.xlsx")


class _RowFiles:
    """The files with the markup of rows that are added to the workbook at the end.

    Args:
        folder: the folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.paths: dict[str, Path] = {}

    def new(self, sheet: int) -> TextIO:
        """Opens the file of a sheet, which are numbered from 1."""
        path = self._folder / f"rows_{sheet}.xml"
        self.paths[f"xl/worksheets/sheet{sheet}.xml"] = path
        return path.open("w", encoding="utf-8", newline="\n")


class _CellFormats(NamedTuple):
    """The cell formats of a workbook."""

    title: Any
    subtitle: Any
    body: Any
    verdicts: dict[str, Any]
    heading: Any
    number_heading: Any
    kinds: dict[str, Any]
    one_line_kinds: dict[str, Any]
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
    kinds = {kind: workbook.add_format(properties) for kind, properties in _KIND_FORMATS.items()}
    one_line = workbook.add_format({**_KIND_FORMATS["text"], "text_wrap": False})
    return _CellFormats(
        title=workbook.add_format({"bold": True, "font_size": 16, **_TEXT}),
        subtitle=workbook.add_format({"font_color": "#5B6668", **_TEXT}),
        body=workbook.add_format(_TEXT),
        verdicts={
            tone: workbook.add_format({"bold": True, "font_size": 13, "font_color": color, **_TEXT})
            for tone, color in _VERDICT_COLORS.items()
        },
        heading=workbook.add_format({**heading, "align": "left", "indent": 1}),
        number_heading=workbook.add_format({**heading, "align": "right"}),
        kinds=kinds,
        one_line_kinds=kinds | dict.fromkeys(("text", "prose", "labels"), one_line),
        strong_kinds={
            kind: workbook.add_format({**strong, **properties}) for kind, properties in _KIND_FORMATS.items()
        },
    )


def _write_summary(workbook: Workbook, formats: _CellFormats, document: Document, section: Section) -> None:
    """Writes the first sheet: header, verdict, figures, and the first table."""
    sheet = workbook.add_worksheet("Summary")
    sheet.hide_gridlines(2)
    layout = layout_of(section)
    _set_up(sheet, layout)
    row = 0
    for text, text_format, size in [
        (document.title, formats.title, 16),
        (document.subtitle, formats.subtitle, 11),
        ("", formats.body, 11),
        (document.verdict.headline, formats.verdicts[document.verdict.tone], 13),
        (document.verdict.about, formats.body, 11),
        ("", formats.body, 11),
        *((f"{fact.title}: {fact.text}", formats.body, 11) for fact in document.facts),
        ("", formats.body, 11),
    ]:
        row = _text_row(sheet, layout, row, text, text_format, size)
    for equation in document.equations:
        row = _write_equation(sheet, formats, equation, row) + 1
    for text, text_format, size in ((section.title, formats.title, 16), (section.about, formats.subtitle, 11)):
        row = _text_row(sheet, layout, row, text, text_format, size)
    _write_headings(sheet, formats, layout, row)
    first = row + 1
    for cells in section.rows():
        row += 1
        _write_row(sheet, layout, cells, row, formats.kinds, formats.one_line_kinds)
    for cells in section.totals:
        row += 1
        _write_totals(sheet, layout, cells, row, formats, [_Block(None, first, first + _count(section) - 1)])


def _count(section: Section) -> int:
    return sum(1 for _ in section.rows())


def _text_row(sheet: Worksheet, layout: SheetLayout, row: int, text: str, text_format: Any, size: int) -> int:
    """Writes a text over the whole width, in a row that is high enough for it; returns the next row."""
    last = layout.printed - 1
    width = sum(layout.widths[: layout.printed]) * 10 // size
    lines = max(-(-width_of(text) // width), 1)
    sheet.set_row(row, lines * LINE_HEIGHT * size // 11 + 2)
    if text:
        if last:
            sheet.merge_range(row, 0, row, last, "", text_format)
        sheet.write_string(row, 0, text, text_format)
    return row + 1


def _write_equation(sheet: Worksheet, formats: _CellFormats, equation: Equation, row: int) -> int:
    """Writes the figures of a currency, each in a row; a sum of figures is a formula. Returns the next row."""
    first = row
    for place, figure in enumerate(equation.figures):
        sheet.write_string(row, 0, figure.title, formats.strong_kinds["text"])
        amount = formats.strong_kinds["amount"]
        if place and equation.signs[place - 1] == "=":
            _write_formula(sheet, row, 1, f"=SUM(B{first + 1}:B{row})", figure.amount, amount)
        else:
            sheet.write_number(row, 1, figure.amount, amount)
        sheet.write_string(row, 2, figure.unit, formats.strong_kinds["text"])
        sheet.merge_range(row, 3, row, 4, "", formats.strong_kinds["exact"])
        sheet.write_string(row, 3, format_decimal(figure.amount), formats.strong_kinds["exact"])
        sheet.merge_range(row, 5, row, 8, "", formats.subtitle)
        sheet.write_string(row, 5, figure.about, formats.subtitle)
        sheet.set_row(row, LINE_HEIGHT * max(-(-width_of(figure.about) // 44), 1) + 2)
        row += 1
    return row


class _Block(NamedTuple):
    """Rows of a table on one sheet, counted from 0; None: on the same sheet as the formula."""

    sheet: str | None
    first: int
    last: int

    def reference(self, column: int) -> str:
        """Returns the reference to a column of the rows."""
        from xlsxwriter.utility import quote_sheetname, xl_range_abs  # noqa: PLC0415 (an extra)

        place = xl_range_abs(self.first, column, self.last, column)
        return place if self.sheet is None else f"{quote_sheetname(self.sheet)}!{place}"


def _write_section(
    workbook: Workbook, formats: _CellFormats, section: Section, max_rows: int, files: _RowFiles
) -> None:
    """Writes a table on its own sheet, or on several if it has too many rows for one.

    XlsxWriter writes the last row of each sheet, so that it knows how large the sheet is.
    """
    layout = layout_of(section)
    rows = iter(section.rows())
    row = next(rows, None)
    last = max_rows - len(section.totals)
    blocks: list[_Block] = []
    while row is not None or not blocks:
        number = len(blocks) + 1
        name = section.title if number == 1 else f"{section.title} {number}"
        sheet = workbook.add_worksheet(name)
        _set_up(sheet, layout)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        _write_headings(sheet, formats, layout, 0)
        place = 1
        if row is not None:
            before_last = _AllButLast(row, islice(rows, last - 2))
            with files.new(len(workbook.worksheets())) as file:
                file.writelines(row_markup(layout, formats.kinds, formats.one_line_kinds, before_last, place))
            place += before_last.count
            _write_row(sheet, layout, before_last.last, place, formats.kinds, formats.one_line_kinds)
            row = next(rows, None)
            place += 1
        sheet.autofilter(0, 0, max(place - 1, 1), len(layout.columns) - 1)
        blocks.append(_Block(name, 1, max(place - 1, 1)))
        if row is not None:
            sheet.print_area(0, 0, place - 1, layout.printed - 1)
    blocks[-1] = blocks[-1]._replace(sheet=None)
    for total in section.totals:
        _write_totals(sheet, layout, total, place, formats, blocks)
        place += 1
    sheet.print_area(0, 0, place - 1, layout.printed - 1)


class _AllButLast:
    """Yields rows, but not the last one.

    Args:
        first: the first row.
        others: the rows after it.

    Attributes:
        last: the last row, once the others have been read.
        count: the number of rows before it.
    """

    def __init__(self, first: Row, others: Iterator[Row]) -> None:
        self.last = first
        self.count = 0
        self._others = others

    def __iter__(self) -> Iterator[Row]:
        for row in self._others:
            before, self.last = self.last, row
            self.count += 1
            yield before


def _write_headings(sheet: Worksheet, formats: _CellFormats, layout: SheetLayout, place: int) -> None:
    sheet.set_row(place, layout.lines_of_headings() * LINE_HEIGHT + 2)
    for index, column in enumerate(layout.columns):
        is_number = column.column.is_number
        sheet.write_string(place, index, column.title, formats.number_heading if is_number else formats.heading)


def _write_row(
    sheet: Worksheet,
    layout: SheetLayout,
    row: Row,
    place: int,
    formats: Mapping[str, Any],
    one_line: Mapping[str, Any],
) -> None:
    """Writes a row; text right of the printed part stays on one line."""
    cells = [column.value_of(row) for column in layout.columns]
    if (lines := layout.lines_of_row(cells)) > 1:
        sheet.set_row(place, lines * LINE_HEIGHT)
    for index, (column, cell) in enumerate(zip(layout.columns, cells, strict=True)):
        if cell is not None or column.column.missing:
            _write_cell(sheet, place, index, column, cell, formats if index < layout.printed else one_line)


def _write_cell(
    sheet: Worksheet,
    place: int,
    index: int,
    column: SheetColumn,
    cell: Any,
    formats: Mapping[str, Any],
) -> None:
    """Writes one cell."""
    kind, value = written_cell(column, cell)
    if value is None:
        sheet.write_blank(place, index, None, formats[kind])
    elif isinstance(value, str):
        sheet.write_string(place, index, value, formats[kind])
    elif isinstance(value, datetime):
        sheet.write_datetime(place, index, value, formats[kind])
    else:
        sheet.write_number(place, index, value, formats[kind])


def _write_totals(
    sheet: Worksheet,
    layout: SheetLayout,
    row: Row,
    place: int,
    formats: _CellFormats,
    blocks: Sequence[_Block],
) -> None:
    """Writes a total; each sum is a formula over the rows of the same currency."""
    currency = next(
        (index for index, column in enumerate(layout.columns) if column.column.name == "currency"), None
    )
    for index, column in enumerate(layout.columns):
        cell = column.value_of(row)
        if (
            column.column.kind in {"amount", "count"}
            and not column.is_exact
            and isinstance(cell, int | Decimal)
        ):
            cell_format = formats.strong_kinds[column.column.kind]
            formula = "+".join(_sums(blocks, index, currency, place))
            _write_formula(sheet, place, index, f"={formula}", Decimal(cell), cell_format)
        else:
            named = column._replace(column=column.column._replace(missing=""))
            _write_cell(sheet, place, index, named, cell, formats.strong_kinds)


def _sums(blocks: Sequence[_Block], column: int, currency: int | None, place: int) -> Iterator[str]:
    """Yields the formula of the sum of a column over each block, of the currency of a total."""
    from xlsxwriter.utility import xl_rowcol_to_cell  # noqa: PLC0415 (an extra)

    for block in blocks:
        if currency is None:
            yield f"SUM({block.reference(column)})"
        else:
            criterion = xl_rowcol_to_cell(place, currency)
            yield f"SUMIF({block.reference(currency)},{criterion},{block.reference(column)})"


def _write_formula(
    sheet: Worksheet, row: int, column: int, formula: str, amount: Decimal, cell_format: Any
) -> None:
    """Writes a formula with its result, for programs that do not compute formulas."""
    sheet.write_formula(row, column, formula, cell_format, Decimal(format_decimal(amount)))


def _set_up(sheet: Worksheet, layout: SheetLayout) -> None:
    """Sets the widths of the columns, and the print layout."""
    for index, width in enumerate(layout.widths):
        sheet.set_column(index, index, width)
    sheet.set_landscape()
    sheet.set_paper(_A4)
    sheet.set_margins(*map(Decimal, ("0.4", "0.4", "0.4", "0.6")))
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&L&A&R&P / &N")
