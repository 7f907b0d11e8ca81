"""A report as one XLSX workbook: a sheet for each table, the summary first.

A number in XLSX is a binary double, so every amount stands there twice: as a number, to sum and to sort by, and
as text with every digit.
Text is written as text, whatever it begins with: a task `=1+1` is no formula.
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
"""Rows that a sheet can have; a longer table goes on in another."""

_MAX_CHARS = 32_767
_CREATED = datetime(2000, 1, 1)  # noqa: DTZ001 (the same each time, and the format knows no zones)
_WIDTHS: dict[Kind, int] = {
    "text": 18, "prose": 48, "count": 10, "amount": 16, "quantity": 10, "percent": 12, "instant": 19,
}  # fmt: skip
_WIDE = {"reservation_id": 34, "task_id": 26, "labels": 30}
_VERDICTS = {"good": "#1A6244", "wait": "#735606", "bad": "#93341A"}
_KINDS: dict[str, dict[str, Any]] = {
    "count": {"num_format": "#,##0"},
    "amount": {"num_format": "#,##0.00#######;[Red]-#,##0.00#######"},
    "quantity": {"num_format": "#,##0.#########"},
    "percent": {"num_format": "0.00"},
    "instant": {"num_format": "yyyy-mm-dd hh:mm:ss", "align": "left"},
    "exact": {"num_format": "@", "align": "right", "font_color": "#5B6668"},
}
"""How each kind of value looks; `exact` is an amount as text."""


def write(document: Document, folder: Path, *, most_rows: int = MAX_ROWS) -> None:
    """Writes `report.xlsx`.

    Args:
        document: what to write.
        folder: where.
        most_rows: rows of a sheet, headings included.
    """
    from xlsxwriter import Workbook  # noqa: PLC0415 (an extra, and slow to load)

    options = {"constant_memory": True, "in_memory": False, "tmpdir": str(folder)}
    with Workbook(str(folder / "report.xlsx"), options) as workbook:
        workbook.set_properties({"title": document.title, "subject": document.subtitle, "created": _CREATED})
        looks = _looks(workbook)
        summary, *others = document.sections
        _write_summary(workbook, looks, document, summary)
        for section in others:
            _write_section(workbook, looks, section, most_rows)


class _Looks(NamedTuple):
    title: Any
    subtitle: Any
    verdicts: dict[str, Any]
    heading: Any
    number_heading: Any
    strong: Any
    kinds: dict[str, Any]
    strong_kinds: dict[str, Any]


def _looks(workbook: Workbook) -> _Looks:
    heading = {
        "bold": True,
        "bg_color": "#1F3A3D",
        "font_color": "#FFFFFF",
        "valign": "vcenter",
        "text_wrap": True,
    }
    strong = {"bold": True, "top": 1}
    return _Looks(
        title=workbook.add_format({"bold": True, "font_size": 18}),
        subtitle=workbook.add_format({"font_color": "#5B6668"}),
        verdicts={
            tone: workbook.add_format({"bold": True, "font_size": 13, "font_color": color})
            for tone, color in _VERDICTS.items()
        },
        heading=workbook.add_format(heading),
        number_heading=workbook.add_format({**heading, "align": "right"}),
        strong=workbook.add_format(strong),
        kinds={kind: workbook.add_format(look) for kind, look in _KINDS.items()},
        strong_kinds={kind: workbook.add_format({**strong, **look}) for kind, look in _KINDS.items()},
    )


def _write_summary(workbook: Workbook, looks: _Looks, document: Document, section: Section) -> None:
    """The first sheet: what it is about, what it comes to, and the first table."""
    sheet = workbook.add_worksheet("Summary")
    sheet.hide_gridlines(2)
    _set_up(sheet, section.columns)
    row = _texts(
        sheet,
        0,
        [
            (document.title, looks.title),
            (document.subtitle, looks.subtitle),
            ("", None),
            (document.verdict.headline, looks.verdicts[document.verdict.tone]),
            (document.verdict.about, None),
            ("", None),
            *((f"{fact.title}: {fact.text}", None) for fact in document.facts),
            ("", None),
        ],
    )
    for equation in document.equations:
        for figure in equation.figures:
            sheet.write_string(row, 0, figure.title, looks.strong)
            sheet.write_number(row, 1, figure.amount, looks.strong_kinds["amount"])
            sheet.write_string(row, 2, figure.unit, looks.strong)
            sheet.write_string(row, 3, format_decimal(figure.amount), looks.strong_kinds["exact"])
            sheet.write_string(row, 4, figure.about, looks.subtitle)
            row += 1
        row += 1
    row = _texts(sheet, row, [(section.title, looks.title), (section.about, looks.subtitle)])
    _write_headings(sheet, looks, section.columns, row)
    for each in section.rows():
        row += 1
        _write_row(sheet, section.columns, each, row, None, looks.kinds)
    for each in section.totals:
        row += 1
        _write_row(sheet, section.columns, each, row, looks.strong, looks.strong_kinds)


def _texts(sheet: Worksheet, row: int, texts: Iterable[tuple[str, Any]]) -> int:
    for text, look in texts:
        sheet.write_string(row, 0, text, look)
        row += 1
    return row


def _write_section(workbook: Workbook, looks: _Looks, section: Section, most_rows: int) -> None:
    """A table on a sheet of its own, or on several where it is longer than one can be."""
    rows = iter(section.rows())
    row = next(rows, None)
    last = most_rows - len(section.totals)
    number = 1
    while row is not None or number == 1:
        sheet = workbook.add_worksheet(section.title if number == 1 else f"{section.title} {number}")
        _set_up(sheet, section.columns)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        _write_headings(sheet, looks, section.columns, 0)
        place = 1
        while row is not None and place < last:
            _write_row(sheet, section.columns, row, place, None, looks.kinds)
            row = next(rows, None)
            place += 1
        sheet.autofilter(0, 0, max(place - 1, 1), len(list(_places(section.columns))) - 1)
        number += 1
    for total in section.totals:
        _write_row(sheet, section.columns, total, place, looks.strong, looks.strong_kinds)
        place += 1


def _write_headings(sheet: Worksheet, looks: _Looks, columns: Sequence[Column], place: int) -> None:
    sheet.set_row(place, 30)
    for index, (column, exact) in enumerate(_places(columns)):
        title = f"{column.title}, exactly" if exact else column.title
        number = column.is_number
        sheet.write_string(place, index, title, looks.number_heading if number else looks.heading)


def _write_row(
    sheet: Worksheet, columns: Sequence[Column], row: Row, place: int, text_look: Any, looks: Mapping[str, Any]
) -> None:
    """Writes one row; `text_look` is the look of texts, and of cells without a value, if they have one."""
    index = 0
    for column, cell in zip(columns, row, strict=True):
        look = looks.get(column.kind, text_look)
        if cell is None:
            if column.missing:
                sheet.write_string(place, index, column.missing, text_look)
            elif text_look is not None:
                sheet.write_blank(place, index, None, look)
        elif isinstance(cell, str):
            word = column.words.get(cell)
            sheet.write_string(place, index, cell[:_MAX_CHARS] if word is None else word.title, text_look)
        elif isinstance(cell, datetime):
            sheet.write_datetime(place, index, cell.astimezone(UTC).replace(tzinfo=None), look)
        else:
            sheet.write_number(place, index, cell, look)
        index += 1
        if column.kind == "amount":
            if isinstance(cell, Decimal):
                sheet.write_string(place, index, format_decimal(cell), looks["exact"])
            index += 1


def _places(columns: Sequence[Column]) -> Iterator[tuple[Column, bool]]:
    """The columns of a sheet: every amount has a second one, for its exact text."""
    for column in columns:
        yield column, False
        if column.kind == "amount":
            yield column, True


def _set_up(sheet: Worksheet, columns: Sequence[Column]) -> None:
    """How wide its columns are, and how it is printed."""
    for index, (column, _) in enumerate(_places(columns)):
        sheet.set_column(index, index, _WIDE.get(column.name, _WIDTHS[column.kind]))
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&L&A&R&P / &N")
