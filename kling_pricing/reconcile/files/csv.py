"""Reads statements in CSV: the database reads simple files; Python reads all others and reports faulty rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TextIO

from kling_pricing.reconcile.files.file_reader import (
    ID_SEPARATOR,
    MAX_COLUMNS,
    MAX_LINE,
    MAX_TITLE_ROWS,
    TOO_MANY_COLUMNS,
    FileReader,
    Layout,
    RowSource,
    column_name,
    text_in,
)
from kling_pricing.reconcile.id_forms import is_footer
from kling_pricing.reconcile.staging import literal

_BLOCK = 1 << 20
_LONGEST_FIELD = 1 << 26
_DELIMITERS = ",;\t|"
_SEPARATED = "-?[0-9]+[.,][0-9.,]*"


class CsvReader(FileReader):
    """A reader of one text file with delimited columns."""

    @property
    def read_path(self) -> Path:
        """See `FileReader.read_path`."""
        return self.text_path

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        row, header = self._header
        if not any(header):
            raise self.error("is empty; the first row must contain the column names")
        if len(header) > MAX_COLUMNS:
            raise self.error(TOO_MANY_COLUMNS, row=row)
        return header

    def layouts(
        self, prescribed: Layout, wanted: Sequence[Sequence[str]] | None = None
    ) -> Iterator[tuple[Layout, Sequence[str]]]:
        """See `FileReader.layouts`."""
        del wanted  # the header has every column
        heads = [
            (prescribed._replace(delimiter=delimiter), self._head(delimiter))
            for delimiter in ([prescribed.delimiter] if prescribed.delimiter else self._delimiters)
        ]
        for place in range(MAX_TITLE_ROWS):
            for layout, head in heads:
                if place < len(head):
                    row, record = head[place]
                    yield layout._replace(header_row=row), record

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`.

        The database reads one row per line. If it finds fewer rows than lines, a line is blank or has a
        different number of columns, or a row spans several lines.
        """
        header = self.header()
        cells = self.cells(header, columns)
        if any(path for _, path in cells.values()):
            return self.careful_source(columns, exact)
        skipped = self.layout.header_row - 1
        types = ", ".join(f"'c{place}': 'VARCHAR'" for place, _ in enumerate(header))
        relation = (
            f"read_csv({self.literal_path}, auto_detect = false, header = true, hive_partitioning = false, "
            f"skip = {skipped}, delim = {literal(self._delimiter)}, quote = '\"', escape = '\"', nullstr = '', "
            f"strict_mode = true, columns = {{{types}}})"
        )
        texts = {name: f"c{place}" for name, (place, _) in cells.items()}
        rows = self._lines() - skipped - 1
        source = RowSource(relation, texts, first_row=skipped + 2, rows=rows)
        return self._with_decimal(source)

    def careful_source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.careful_source`."""
        del exact  # every column is text
        cells = self.cells(self.header(), columns)
        return self._with_decimal(self.staged(list(cells), self._rows(cells)))

    @property
    def _delimiter(self) -> str:
        return self.layout.delimiter or self._delimiters[0]

    @cached_property
    def _delimiters(self) -> Sequence[str]:
        """The possible delimiters, the likeliest first, judged by their number in the first lines."""
        if self.path.suffix.lower() == ".tsv":
            return ["\t"]
        with self.text_path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line[:_BLOCK] for line in islice(_Lines(file, self.error), MAX_TITLE_ROWS)]
        most = {
            delimiter: max((line.count(delimiter) for line in lines), default=0) for delimiter in _DELIMITERS
        }
        return sorted(_DELIMITERS, key=lambda delimiter: -most[delimiter])

    @property
    def _header(self) -> tuple[int, list[str]]:
        """The number of the header row, and the names of the columns."""
        records = self._records(self._delimiter)
        return next(
            (
                (row, [*map(column_name, record)])
                for row, record in records
                if row >= self.layout.header_row and record
            ),
            (1, []),
        )

    def _head(self, delimiter: str) -> list[tuple[int, list[str]]]:
        """Returns the first rows that are not blank."""
        records = self._records(delimiter, strict=False)
        first = (
            (row, [*map(column_name, record[: MAX_COLUMNS + 1])]) for row, record in records if any(record)
        )
        return list(islice(first, MAX_TITLE_ROWS)) or [(1, [])]

    def _with_decimal(self, source: RowSource) -> RowSource:
        """Returns a source with the decimal separator of the numbers in the file.

        A file may use decimal commas only if commas do not delimit its columns. A number such as 1.251 or 1,251
        decides nothing, because its separator may be a thousands separator; 1.251,5 and 1.251.000 decide both.
        """
        source = source._replace(has_blanks=True)
        has_numbers = any(name in source.texts for name in self.numbers)
        if self.layout.decimal is not None or self._delimiter == "," or not has_numbers:
            return source._replace(decimal=self.layout.decimal or ".")
        numbers = " UNION ALL ".join(
            f"SELECT {source.texts[name]} AS number FROM {source.relation}"
            for name in self.numbers
            if name in source.texts
        )
        point, comma, sure_point, sure_comma, grouped = self.workspace.all(
            f"""
            SELECT bool_or(contains(number, '.')), bool_or(contains(number, ',')),
              bool_or({_is_decimal(".", ",")}), bool_or({_is_decimal(",", ".")}),
              bool_or({_is_grouped(".", ",")}) OR bool_or({_is_grouped(",", ".")})
            FROM (SELECT regexp_replace(number, '[^-0-9,.]', '', 'g') AS number FROM ({numbers}))
            WHERE regexp_full_match(number, '{_SEPARATED}')
            """
        )[0]
        if sure_comma or (comma and not point and self._delimiter == ";"):
            decimal = None if sure_point else ","
        else:
            decimal = "." if sure_point or not (point or comma) else None
        thousands = {",": ".", ".": ","}[decimal] if decimal and grouped else None
        return source._replace(decimal=decimal, thousands=thousands)

    def _lines(self) -> int:
        lines, size, last = 0, 0, b"\n"
        with self.text_path.open("rb") as file:
            while block := file.read(_BLOCK):
                lines += block.count(b"\n")
                size += len(block)
                last = block[-1:]
                self.on_bytes(size)
        return lines + (last != b"\n")

    def _rows(self, cells: dict[str, tuple[int, str]]) -> Iterator[tuple[int, Sequence[str], str]]:
        header_row, header = self._header
        for row, record in self._records(self._delimiter):
            if row <= header_row:
                continue
            if len(record) != len(header):
                record = _padded(record, len(header))  # noqa: PLW2901 (a footer that has no other columns)
            if len(record) == len(header):
                texts = [text_in(record[place], path) for place, path in cells.values()]
                fault = f"{list(cells)[texts.index(None)]} is not valid JSON text" if None in texts else ""
                yield row, [text or "" for text in texts], fault
            elif any(record):
                fault = f"it has {len(record)} columns, but the header has {len(header)}"
                possible = [
                    _possible_ids(record, place, len(record) - len(header))
                    if name in self.task_columns and not path
                    else ""
                    for name, (place, path) in cells.items()
                ]
                yield row, possible, fault if header_row > 1 else fault.replace("header", "first row")

    def _records(self, delimiter: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
        """Yields the number of the line on which each record begins, and the fields of the record."""
        with _long_fields(), self.text_path.open(encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file, self.error)
            records = csv.reader(lines, delimiter=delimiter, strict=strict)
            line = 1
            try:
                for record in records:
                    yield line, record
                    line = records.line_num + 1
                    lines.record_ended()
            except csv.Error as error:
                raise self.error(
                    f"is not valid CSV from this row on ({error}); correct the quotation marks", row=line
                ) from None
            except UnicodeDecodeError:
                raise self.error(
                    "is not UTF-8 text; save it as UTF-8, or give its encoding, such as gb18030, with "
                    "--encoding",
                    row=self._undecodable(),
                ) from None

    def _undecodable(self) -> int:
        """Returns the number of the first line that is not UTF-8."""
        with self.text_path.open("rb") as file:
            return next(number for number, line in enumerate(file, start=1) if not _is_utf8(line))


class _Lines:
    """Yields the lines of a file, and limits the length of each line and of each record.

    Raises:
        StatementError: a line or a record is too long.
    """

    def __init__(self, file: TextIO, error: Callable[..., Exception]) -> None:
        self._file = file
        self._error = error
        self._row = 0
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE + 1):
            self._row += 1
            self._size += len(line)
            if len(line) > MAX_LINE or self._size > _LONGEST_FIELD:
                raise self._error(
                    "has a row that is too long; correct the line breaks and quotation marks", row=self._row
                )
            yield line

    def record_ended(self) -> None:
        """Starts to measure the next record."""
        self._size = 0


def _padded(record: list[str], length: int) -> list[str]:
    """Returns the record of a footer with as many fields as the header; any other record is not changed."""
    texts = [field for field in record if field.strip()]
    if len(texts) != 1 or record.index(texts[0]) >= length or not is_footer(texts[0]):
        return record
    return [*record, *[""] * length][:length]


def _possible_ids(record: Sequence[str], place: int, surplus: int) -> str:
    """Returns the fields of which one is the id, if a record has more or fewer fields than the header."""
    first, last = sorted((place, place + surplus))
    return ID_SEPARATOR.join(field for field in record[max(first, 0) : max(last, 0) + 1] if field)


def _is_decimal(separator: str, other: str) -> str:
    """Returns the SQL condition that a number has this decimal separator and no other reading is possible."""
    return (
        f"(regexp_full_match(number, '-?[0-9{other}]+[{separator}][0-9]*')"
        f" AND NOT regexp_full_match(number, '-?[1-9][0-9]{{0,2}}([{separator}][0-9]{{3}})+'))"
        f" OR regexp_full_match(number, '-?[1-9][0-9]{{0,2}}([{other}][0-9]{{3}}){{2,}}')"
    )


def _is_grouped(separator: str, decimal: str) -> str:
    """Returns the SQL condition that a number has this thousands separator and no other reading is possible."""
    group = f"-?[1-9][0-9]{{0,2}}([{separator}][0-9]{{3}})"
    return (
        f"regexp_full_match(number, '{group}{{2,}}') OR regexp_full_match(number, '{group}+[{decimal}][0-9]+')"
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raises Python's limit on the length of a field, because an unused column may contain long prompts."""
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
