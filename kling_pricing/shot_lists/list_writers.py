"""Writes tables of results as CSV, TSV, XLSX, Parquet or JSON Lines.

A file appears under its name when it is complete; until then, an older file stays as it is.
Amounts keep every digit.
In text for spreadsheets, nothing is taken for a formula; see `reports.formats.csv`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Literal, NamedTuple, TypeAlias

from kling_pricing.display import escape_formulas, joined_with_or, not_installed, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import MAX_DECIMALS, format_decimal
from kling_pricing.shot_lists.errors import ShotListError

_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_SHORT_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,5})?")
"""A number that a spreadsheet keeps with every digit."""
_MARKS = frozenset(" =+-@'\uff1d\uff0b\uff0d\uff20")
"""The first characters of the printable texts without semicolons that `escape_formulas` may change."""
_LINE_END = csv.excel.lineterminator
_MAX_KNOWN = 8192
"""Maximum number of results whose text is kept."""
_MAX_SHEET_ROWS = 1_048_576
_MAX_CELL_CHARS = 32_767

ResultCell: TypeAlias = str | Decimal | None
"""The value of a cell; None: it is empty."""

ResultKind: TypeAlias = Literal["text", "amount"]


class ResultColumn(NamedTuple):
    """A column of a file with results: its name, and the kind of its cells."""

    name: str
    kind: ResultKind = "text"


class ListWriter(ABC):
    """A writer of one file.

    Attributes:
        columns: the columns.
        path: the name under which the file appears.
    """

    def __init__(self, path: Path, columns: Sequence[ResultColumn], part: Path) -> None:
        self.path = path
        self.columns = columns
        self.part = part

    @abstractmethod
    def write(self, cells: Sequence[str], results: Sequence[ResultCell] = ()) -> None:
        """Writes a row; the cells and the results together are one for each column.

        Args:
            cells: the first cells of the row, which are text; empty text: the cell is empty. The first two are
                the file and the row that the results are about.
            results: the last ones; rows with the same results may share one sequence, which is not changed.

        Raises:
            ShotListError: the format cannot hold the row.
        """

    @abstractmethod
    def close(self) -> None:
        """Completes `part`."""

    def abandon(self) -> None:
        """Ends the work on `part`, which is then removed."""
        with suppress(OSError):
            self.close()


@contextmanager
def list_writer(path: str, columns: Sequence[ResultColumn]) -> Iterator[ListWriter]:
    """Opens a file for results; the ending of its name decides the format.

    If the block raises an error, the file does not appear, and an older file stays as it is.

    Raises:
        ShotListError: the format is unknown or needs a missing package, or the file cannot be written.
    """
    kind = writer_kind(path)
    target = Path(path)
    part: Path | None = None
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            part = Path(file.name)
        writer = kind(target, columns, part)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except OSError as error:
        problem = (
            f"cannot be written: {error.strerror or error}; choose a folder that exists and can be written"
        )
        raise ShotListError(problem, file=path) from None
    finally:
        if part is not None:
            with suppress(FileNotFoundError):
                part.unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def writer_kind(path: str) -> type[ListWriter]:
    """Returns the writer for a file.

    Raises:
        ShotListError: the ending of the name is unknown, or a package is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        raise ShotListError(
            f"cannot be written in this format; choose a name that ends in {joined_with_or(_KINDS)}", file=path
        )
    kind = _KINDS[suffix]
    try:
        if kind is _XlsxListWriter:
            import xlsxwriter  # noqa: F401, PLC0415 (an extra)
        elif kind is _ParquetListWriter:
            import duckdb  # noqa: F401, PLC0415 (an extra)
    except ModuleNotFoundError as error:
        problem = not_installed(suffix.removeprefix(".").upper(), str(error.name), "reports")
        raise ShotListError(problem, file=path) from None
    return kind


class _CsvListWriter(ListWriter):
    def __init__(self, path: Path, columns: Sequence[ResultColumn], part: Path) -> None:
        super().__init__(path, columns, part)
        self._file: IO[str] = part.open("w", encoding="utf-8", newline="")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        self._line = csv.writer(_Returning(), delimiter=delimiter).writerow
        self._delimiter = delimiter
        self._known: dict[int, tuple[Sequence[ResultCell], str]] = {}
        self._file.write(self._safe_line([column.name for column in columns]))

    def write(self, cells: Sequence[str], results: Sequence[ResultCell] = ()) -> None:
        known = self._known.get(id(results))
        end = self._end(results) if known is None else known[1]
        self._file.write(self._safe_line(cells).removesuffix(_LINE_END) + end)

    def _safe_line(self, cells: Sequence[str]) -> str:
        """Returns a line in which nothing is taken for a formula."""
        text = "".join(cells)  # the usual case is settled for all cells at once, because there are many
        is_plain = text.isprintable() and ";" not in text and _MARKS.isdisjoint([cell[:1] for cell in cells])
        line: str = self._line(cells if is_plain else [*map(_spreadsheet_text, cells)])
        return line

    def _end(self, results: Sequence[ResultCell]) -> str:
        """Returns the end of a line, with the delimiter in front of it, and keeps it for equal results."""
        if not results:
            return _LINE_END
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        text = f"{self._delimiter}{self._line([*map(_spreadsheet_text, results)])}"
        self._known[id(results)] = results, text  # the results are kept, so that no others get their `id`
        return text

    def close(self) -> None:
        self._file.close()


class _Returning:
    """A file for `csv.writer` whose `writerow` returns the line instead of writing it."""

    def write(self, line: str) -> str:
        return line


def _spreadsheet_text(cell: ResultCell) -> str:
    if isinstance(cell, Decimal):
        return format_decimal(cell)
    return (cell or "") if not cell or _PLAIN_NUMBER.fullmatch(cell) else escape_formulas(cell)


class _JsonListWriter(ListWriter):
    def __init__(self, path: Path, columns: Sequence[ResultColumn], part: Path) -> None:
        super().__init__(path, columns, part)
        self._file: IO[str] = part.open("w", encoding="utf-8", newline="\n")
        self._names = [column.name for column in columns]

    def write(self, cells: Sequence[str], results: Sequence[ResultCell] = ()) -> None:
        values = [
            format_decimal(cell) if isinstance(cell, Decimal) else cell or None for cell in (*cells, *results)
        ]
        self._file.write(json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False))
        self._file.write("\n")

    def close(self) -> None:
        self._file.close()


class _XlsxListWriter(ListWriter):
    """Writes a sheet; an amount has a second column with its exact text, because XLSX rounds numbers."""

    def __init__(self, path: Path, columns: Sequence[ResultColumn], part: Path) -> None:
        from xlsxwriter import Workbook  # noqa: PLC0415 (an extra, and slow to load)

        super().__init__(path, columns, part)
        self._book = Workbook(str(part), {"constant_memory": True, "in_memory": False})
        self._sheet = self._book.add_worksheet("Results")
        self._sheet.freeze_panes(1, 0)
        self._row = 0
        bold = self._book.add_format({"bold": True})
        names = [
            name
            for column in columns
            for name in ([column.name, f"{column.name}_exact"] if column.kind == "amount" else [column.name])
        ]
        for place, name in enumerate(names):
            self._write_text(place, name, name, [str(self.path)], bold)

    def write(self, cells: Sequence[str], results: Sequence[ResultCell] = ()) -> None:
        self._row += 1
        if self._row >= _MAX_SHEET_ROWS:
            raise ShotListError(
                f"a sheet has at most {_MAX_SHEET_ROWS} rows; choose a name that ends in .csv",
                file=str(self.path),
            )
        place = 0
        for column, cell in zip(self.columns, (*cells, *results), strict=True):
            if isinstance(cell, Decimal):
                self._sheet.write_number(self._row, place, cell)
                self._sheet.write_string(self._row, place + 1, format_decimal(cell))
            elif cell and _SHORT_NUMBER.fullmatch(cell):
                self._sheet.write_number(self._row, place, Decimal(cell))
            elif cell:
                self._write_text(place, cell, column.name, cells[:2])
            place += 2 if column.kind == "amount" else 1

    def _write_text(self, place: int, text: str, column: str, source: Sequence[str], *style: Any) -> None:
        """Writes a text, and refuses one that the sheet would cut; `source` names the file and the row."""
        if self._sheet.write_string(self._row, place, text, *style):
            problem = (
                f"the text is longer than the {_MAX_CELL_CHARS} characters that a cell of XLSX holds; choose a "
                "name that ends in .csv for the results, or shorten the text"
            )
            file, *row = filter(None, source)
            raise ShotListError(problem, file=file, row=int(row[0]) if row else None, column=shown(column))

    def close(self) -> None:
        self._book.close()


class _ParquetListWriter(ListWriter):
    """Collects the rows as JSON Lines, which the database then turns into Parquet."""

    def __init__(self, path: Path, columns: Sequence[ResultColumn], part: Path) -> None:
        super().__init__(path, columns, part)
        self._lines = part.with_name(f"{part.name}.rows")
        self._file: IO[str] = self._lines.open("w", encoding="utf-8", newline="\n")

    def write(self, cells: Sequence[str], results: Sequence[ResultCell] = ()) -> None:
        values = [
            _exact_text(cell) if isinstance(cell, Decimal) else cell or None for cell in (*cells, *results)
        ]
        self._file.write(json.dumps({f"c{place}": value for place, value in enumerate(values)}))
        self._file.write("\n")

    def close(self) -> None:
        import duckdb  # noqa: PLC0415 (an extra, and slow to load)

        self._file.close()
        try:
            types = ", ".join(f"'c{place}': 'VARCHAR'" for place, _ in enumerate(self.columns))
            selected = ", ".join(
                f"CAST(c{place} AS {_PARQUET_TYPES[column.kind]}) AS {_quoted(column)}"
                for place, column in enumerate(self.columns)
            )
            source = f"read_json({_literal(self._lines)}, format = 'newline_delimited', columns = {{{types}}})"
            with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as database:
                database.execute(
                    f"COPY (SELECT {selected} FROM {source}) TO {_literal(self.part)}"  # noqa: S608 (quoted names)
                    " (FORMAT parquet, COMPRESSION zstd)"
                )
        finally:
            self._lines.unlink()

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._lines.unlink()


_PARQUET_TYPES: dict[ResultKind, str] = {"text": "VARCHAR", "amount": "DECIMAL(38, 9)"}


def _exact_text(amount: Decimal) -> str:
    exponent: Any = amount.normalize().as_tuple().exponent
    if -exponent > MAX_DECIMALS:
        raise KlingPricingError(
            f"{format_decimal(amount)} has more than {MAX_DECIMALS} decimal places, which is too many for "
            "Parquet; choose a name that ends in .csv"
        )
    return format_decimal(amount)


def _quoted(column: ResultColumn) -> str:
    return '"' + column.name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


_KINDS: dict[str, type[ListWriter]] = {
    ".csv": _CsvListWriter,
    ".tsv": _CsvListWriter,
    ".xlsx": _XlsxListWriter,
    ".parquet": _ParquetListWriter,
    ".jsonl": _JsonListWriter,
}
