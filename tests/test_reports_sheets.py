"""Rows of sheets: the library writes all but the last row of a sheet itself, like XlsxWriter."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook

from kling_pricing.reports.document import Cell, Column, DisplayName, Document, Section, Verdict
from kling_pricing.reports.formats import xlsx

COLUMNS = (
    Column("name", "Name", display_names={"not_billed": DisplayName("Not billed", "bad")}),
    Column("cause", "Cause", "prose", missing="no cause"),
    Column("day", "Day", "day"),
    Column("count", "Count", "count"),
    Column("amount", "Amount", "amount"),
    Column("ratio", "Ratio", "amount", keeps_zeros=True),
    Column("at", "At", "instant"),
    Column("labels", "Labels", "labels", on_page=False),
    Column("key", "Key", on_page=False),
)
NAMES = (
    *("plain", "", "=1+1", "a&b", "<b>", "x < y > z & w", "not_billed", "quote \" and '"),
    *(" before", "after ", "\ttab", "two\nlines", "童话", "\u00a0", "word " * 30),
    *("bell\x07", "_x0007_", "__x000A_", "\ufffe\uffff", "\x1f\x0b", "emoji \U0001f600", "a" * 32_767),
)
ROWS: list[tuple[Cell, ...]] = [
    *(
        (name, name, "2026-11-05", 3, Decimal("0.357"), Decimal("0.80"), None, '{"user": "li"}', name)
        for name in NAMES
    ),
    ("a", None, "no day", 0, Decimal("-1234567.123456789"), Decimal("0.8"), None, None, None),
    ("a", "b", None, None, None, None, datetime(2026, 11, 5, 12, 3, 4, 567_891, UTC), "not JSON", "k"),
    ("a", "b", "2024-02-29", 10**12, Decimal(0), Decimal("1E+3"), datetime(2026, 2, 28, tzinfo=UTC), "{}", "k"),
]


def written(rows: list[tuple[Cell, ...]], folder: Path, *, max_rows: int) -> Path:
    """Writes a workbook with a summary and a table of these rows, and returns its path."""
    summary = Section("summary", "Summary", "", COLUMNS[:1], lambda: [("all",)])
    table = Section("table", "Table", "", COLUMNS, lambda: rows, length=len(rows))
    verdict = Verdict("good", "Fine", "Nothing to do.")
    document = Document("spend", "Sheets", "A test", verdict, (), (), (), (summary, table))
    xlsx.write(document, folder, max_rows=max_rows)
    return folder / "report.xlsx"


def test_rows_are_written_like_those_of_xlsxwriter(tmp_path: Path) -> None:
    """Of two equal rows on a sheet, the first is written by the library and the second by XlsxWriter."""
    path = written([row for row in ROWS for _ in range(2)], tmp_path, max_rows=3)
    with ZipFile(path) as workbook:
        for number in range(2, len(ROWS) + 2):
            sheet = workbook.read(f"xl/worksheets/sheet{number}.xml").decode()
            ours, theirs = re.findall(r'<row r="[23]".*?</row>', sheet, re.DOTALL)
            assert re.sub(r' r="([A-Z]*)2"', r' r="\g<1>3"', ours) == theirs
            assert '<dimension ref="A1:K3"/>' in sheet


@pytest.mark.parametrize("count", [0, 1, 2, len(ROWS)])
def test_every_row_is_on_the_sheet_once(count: int, tmp_path: Path) -> None:
    """A sheet has the headings and every row in order, however few there are."""
    path = written(ROWS[:count], tmp_path, max_rows=100)
    values = [row[0] for row in load_workbook(path)["Table"].iter_rows(values_only=True)]
    assert len(values) == count + 1
    assert values[:3] == ["Name", "plain", ""][: count + 1]


def test_equal_amounts_keep_their_own_zeros(tmp_path: Path) -> None:
    """`0.80` and `0.8` are equal, and a column that keeps zeros has both."""
    path = written(ROWS, tmp_path, max_rows=100)
    heading, *rows = load_workbook(path)["Table"].iter_rows(values_only=True)
    exact = heading.index("Ratio, exactly")
    assert [row[exact] for row in rows[-4:]] == ["0.80", "0.8", None, "1000"]


def test_text_that_looks_like_rich_text_is_text(tmp_path: Path) -> None:
    """A name that contains the markup of rich text is written as text."""
    name = "<r><t>bold</t></r>"
    path = written([(name, *ROWS[0][1:]), ROWS[0]], tmp_path, max_rows=100)
    assert load_workbook(path)["Table"]["A2"].value == name
