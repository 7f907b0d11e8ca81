"""Reads the rows of a table as text: CSV, TSV, XLSX and Parquet.

A number of a spreadsheet or a Parquet file becomes its shortest text, without a needless fraction: 5.0 is `5`.
An empty cell is empty text.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import count, repeat
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple, TypeAlias
from zipfile import ZipFile

from kling_pricing.display import not_installed
from kling_pricing.money import format_decimal
from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.temporary import temporary_folder

NumberedRow: TypeAlias = tuple[int, Sequence[str]]
"""The number of a row in its file, from 1, and its cells."""

SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")
"""The endings of the names of files that are shot lists."""

_DELIMITERS = ",;\t|"
_LONGEST_CELL = 1 << 24
_PADDING = " \t\r\n\xa0\u200b\u202f\u3000\ufeff"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_MAX_DIGITS = 15
_FIRST_LOST = 10**_MAX_DIGITS
"""The smallest whole number of which a spreadsheet program may have replaced the last digit with a zero."""
_MAX_COLUMNS = 1 << 10
_MAX_SHEET_ROWS = 1 << 20
_MAX_SHEET_CELLS = 1 << 26
"""The largest number of cells in a sheet. A cell in the last column of a row adds thousands of empty ones."""
_MAX_EXPANDED = 1 << 32
_MAX_RATIO = 100
_ALWAYS_EXPANDED = 1 << 26
_ROWS_AT_ONCE = 1000
_FORMULA = re.compile(rb"<f[\s/>]")
_MAX_REASON = 200


class TextTable(NamedTuple):
    """A table whose cells are text.

    Attributes:
        header: the names of the columns.
        rows: the rows below the header that are not blank; each has as many cells as the header, or its cells
            say that it cannot be read.
        decimal_comma: whether numbers may be written with a decimal comma.
    """

    header: Sequence[str]
    rows: Iterator[NumberedRow]
    decimal_comma: bool = False


@contextmanager
def opened_table(path: Path, sheet: str | None, encoding: str | None) -> Iterator[TextTable]:
    """Opens a table; its rows are read while they are iterated.

    Args:
        path: the file; the ending of its name decides the format.
        sheet: the sheet of a workbook; None: the first one.
        encoding: the encoding of a text file without a byte order mark; None: UTF-8.

    Raises:
        ShotListError: the file cannot be read; also raised during the iteration.
    """
    readers: dict[str, Callable[[], Iterator[NumberedRow]]] = {
        ".xlsx": lambda: _workbook_rows(path, sheet),
        ".parquet": lambda: _parquet_rows(path),
    }
    suffix = path.suffix.lower()
    if suffix in readers:
        rows = readers[suffix]()
        try:
            yield _table(path, rows)
        finally:
            rows.close()  # type: ignore[attr-defined]  # every reader is a generator
        return
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
        used = next((name for mark, name in _MARKS.items() if start.startswith(mark)), encoding or "utf-8")
        text = path.open(encoding=used, newline="")
    except OSError as error:
        raise _unreadable(path, error) from None
    with text:
        delimiter = "\t" if suffix == ".tsv" else _delimiter(start.decode(used, "replace"))
        yield _table(path, _delimited_rows(path, text, delimiter), decimal_comma=delimiter == ";")


def _unreadable(path: Path, error: OSError) -> ShotListError:
    return ShotListError(f"cannot be read: {error.strerror}; give a file", file=str(path))


def _table(path: Path, rows: Iterator[NumberedRow], *, decimal_comma: bool = False) -> TextTable:
    """Takes the header off the rows."""
    _, names = next(rows, (1, ()))
    header = [name.strip(_PADDING) for name in names]
    while header and not header[-1]:
        header.pop()
    if not header:
        raise ShotListError("is empty; the first row must contain the column names", file=str(path))
    if len(header) > _MAX_COLUMNS:
        raise ShotListError(f"has more than {_MAX_COLUMNS} columns; remove some of them", file=str(path))
    return TextTable(header, _below(path, rows, len(header)), decimal_comma)


def _below(path: Path, rows: Iterator[NumberedRow], width: int) -> Iterator[NumberedRow]:
    for number, cells in rows:
        if len(cells) == width:
            yield number, cells
        elif not any(cells[width:]) and len(cells) > width:
            yield number, cells[:width]
        else:
            yield number, _Faulty(path, number, len(cells), width)


class _Faulty(Sequence[str]):
    """The cells of a row that cannot be read; every access raises the reason."""

    def __init__(self, path: Path, number: int, found: int, width: int) -> None:
        self._error = ShotListError(
            f"this row has {found} cells, but the header has {width}; put cells that contain the delimiter in "
            "quotation marks, and write the delimiter between empty cells too",
            file=str(path),
            row=number,
        )

    def __getitem__(self, place: Any) -> Any:
        raise self._error

    def __len__(self) -> int:
        return 0


def _delimiter(start: str) -> str:
    """Returns the delimiter that is most frequent in the header, outside of quotation marks."""
    header = next((line for line in start.splitlines() if line.strip()), "")
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda delimiter: (outside.count(delimiter), -_DELIMITERS.index(delimiter)))


def _delimited_rows(path: Path, text: Any, delimiter: str) -> Iterator[NumberedRow]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    number = 1
    try:
        records = csv.reader(text, delimiter=delimiter, strict=True)
        for record in records:
            if any(record):
                if number == 1:
                    record[0] = record[0].removeprefix("\ufeff")
                yield number, record
            number = records.line_num + 1
    except csv.Error as error:
        problem = f"is not valid CSV from this row on ({error}); correct the quotation marks"
        raise ShotListError(problem, file=str(path), row=number) from None
    except UnicodeDecodeError as error:
        problem = f"is not {error.encoding} text; save it as UTF-8, or give its encoding with --encoding"
        raise ShotListError(problem, file=str(path), row=_undecodable(path, error.encoding)) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        csv.field_size_limit(limit)


def _undecodable(path: Path, encoding: str) -> int | None:
    """Returns the number of the first line that is not in the encoding; None: lines do not show it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return None


def _workbook_rows(path: Path, sheet: str | None) -> Iterator[NumberedRow]:
    try:
        import openpyxl  # noqa: PLC0415 (an extra, and slow to import)
    except ModuleNotFoundError:
        raise ShotListError(not_installed("XLSX", "openpyxl", "reports"), file=str(path)) from None
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        with _damage_reported(path, "XLSX"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about styles and extensions, which are not read
            _refuse_inflated(path, file)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            names = [worksheet.title for worksheet in book.worksheets]
            if sheet is not None and sheet not in names:
                problem = f"has no sheet {sheet!r}; its sheets are {', '.join(names)}"
                raise ShotListError(problem, file=str(path))
            if not names:
                raise ShotListError("has no worksheet; export it again", file=str(path))
            worksheet = book[sheet or names[0]]
            worksheet.reset_dimensions()  # the size that a file states may be wrong
            records = iter(worksheet.iter_rows(values_only=True))
            formulas: Iterator[Sequence[Any]] = repeat(())
            if _has_formulas(file):
                written = openpyxl.load_workbook(file, read_only=True)[worksheet.title]
                written.reset_dimensions()
                formulas = iter(written.iter_rows(values_only=True))
        width = cell_count = 0
        for number in count(1):
            with _damage_reported(path, "XLSX"):
                record = next(records, None)
                formula = next(formulas, ())
            if record is None:
                return
            cell_count += len(record)
            if number > _MAX_SHEET_ROWS or cell_count > _MAX_SHEET_CELLS:
                problem = (
                    f"has more than {_MAX_SHEET_ROWS} rows or {_MAX_SHEET_CELLS} cells, empty ones included; "
                    "remove the empty rows and columns, or save the list as CSV"
                )
                raise ShotListError(problem, file=str(path))
            if any(value is None and cell is not None for value, cell in zip(record, formula, strict=False)):
                problem = "a formula has no saved result; open the file in a spreadsheet program and save it"
                raise ShotListError(problem, file=str(path), row=number)
            if any(cell is not None for cell in record):
                cells = [_cell_text(cell, path, number, rounded=True) for cell in record]
                width = width or len(cells)  # spreadsheets leave out the empty cells at the end of a row
                yield number, [*cells, *[""] * (width - len(cells))]


def _refuse_inflated(path: Path, file: Any) -> None:
    """Refuses a workbook that expands to a multiple of its size, because reading it might never end."""
    with ZipFile(file) as archive:
        expanded = sum(member.file_size for member in archive.infolist())
    stored = path.stat().st_size
    if expanded > _MAX_EXPANDED or expanded > max(_ALWAYS_EXPANDED, _MAX_RATIO * stored):
        problem = f"expands from {stored} to {expanded} bytes, which is too much; save the list as CSV"
        raise ShotListError(problem, file=str(path))


def _has_formulas(file: Any) -> bool:
    """Returns whether a workbook has formulas; then their results must be in the file, too."""
    with ZipFile(file) as archive:
        for member in archive.namelist():
            if member.startswith("xl/worksheets/") and member.endswith(".xml"):
                with archive.open(member) as sheet:
                    end = b""
                    while block := sheet.read(1 << 20):
                        if _FORMULA.search(end + block):
                            return True
                        end = block[-2:]
    return False


@contextmanager
def _damage_reported(path: Path, form: str) -> Iterator[None]:
    """Converts every error of a reader: no list of the errors that damaged files cause is complete."""
    try:
        yield
    except ShotListError:
        raise
    except Exception as error:  # noqa: BLE001 (see above)
        reason = " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
        raise ShotListError(f"cannot be read as {form} ({reason}); save it again", file=str(path)) from None


def _parquet_rows(path: Path) -> Iterator[NumberedRow]:
    try:
        import duckdb  # noqa: PLC0415 (an extra, and slow to import)
    except ModuleNotFoundError:
        raise ShotListError(not_installed("Parquet", "duckdb", "reports"), file=str(path)) from None
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from None
    with temporary_folder("kling-pricing-list-", gettempdir()) as folder:
        alias = folder / "list.parquet"  # DuckDB could read the file's own name as a pattern
        alias.symlink_to(path.absolute())
        with duckdb.connect(config={"autoload_known_extensions": False}) as database:
            with _damage_reported(path, "Parquet"):
                cursor = database.execute(
                    f"SELECT * FROM read_parquet('{alias}', hive_partitioning = false)"  # noqa: S608 (our own path)
                )
                names = [name for name, *_ in cursor.description or ()]
            yield 1, names
            number = 1
            while True:
                with _damage_reported(path, "Parquet"):
                    records = cursor.fetchmany(_ROWS_AT_ONCE)
                if not records:
                    return
                for record in records:
                    number += 1
                    if any(cell is not None for cell in record):
                        yield number, [_cell_text(cell, path, number) for cell in record]


def _cell_text(cell: Any, path: Path, number: int, *, rounded: bool = False) -> str:
    """Returns the text of a cell that has a type.

    Args:
        cell: the cell.
        path: the file, for errors.
        number: the number of its row, for errors.
        rounded: whether whole numbers, too, may have lost digits.

    Raises:
        ShotListError: the cell is a number that has lost digits.
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, Decimal):
        return format_decimal(cell)
    if isinstance(cell, int | float):
        return _number_text(cell, path, number, rounded=rounded or isinstance(cell, float))
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    try:
        return json.dumps(cell, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(cell)


def _number_text(cell: Any, path: Path, number: int, *, rounded: bool) -> str:
    """Returns the shortest decimal of a number; NaN, which data frames write for a missing value, is empty."""
    if cell != cell:  # noqa: PLR0124 (only NaN differs from itself)
        return ""
    if rounded and abs(cell) >= _FIRST_LOST:
        problem = (
            f"the number {cell!r} may have lost digits, because only {_MAX_DIGITS} are kept; store it as text"
        )
        raise ShotListError(problem, file=str(path), row=number)
    return format_decimal(Decimal(repr(cell)))
