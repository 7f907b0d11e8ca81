"""Statements as CSV: the database reads plain files; Python reads the others and names their faulty rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kling_pricing.reconcile.files.file_reader import FileReader, RowSource
from kling_pricing.reconcile.staging import literal

_BLOCK = 1 << 20
_LONGEST_FIELD = 1 << 26


class CsvReader(FileReader):
    """One CSV file, in UTF-8."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        _, header = next(self._records(), (1, []))
        if not any(header):
            raise self.error("is empty; the first row must name the columns")
        return header

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`.

        The database reads one row per line. If it finds fewer rows than lines, a line is blank or has another
        number of columns, or a row spans several lines.
        """
        del exact  # every column is text
        header = self.header()
        types = ", ".join(f"'c{place}': 'VARCHAR'" for place, _ in enumerate(header))
        relation = (
            f"read_csv({self.literal_path}, auto_detect = false, header = true, hive_partitioning = false, "
            f"delim = {literal(self._delimiter)}, quote = '\"', escape = '\"', nullstr = '', "
            f"strict_mode = true, columns = {{{types}}})"
        )
        texts = {name: f"c{place}" for name, place in self.places(header, columns).items()}
        return RowSource(relation, texts, first_row=2, rows=self._lines() - 1)

    def careful_source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.careful_source`."""
        del exact  # every column is text
        places = self.places(self.header(), columns)
        return self.staged(list(places), self._rows(list(places.values())))

    @property
    def _delimiter(self) -> str:
        return "\t" if self.path.suffix.lower() == ".tsv" else self.layout.delimiter

    def _lines(self) -> int:
        lines, size, last = 0, 0, b"\n"
        with self.path.open("rb") as file:
            while block := file.read(_BLOCK):
                lines += block.count(b"\n")
                size += len(block)
                last = block[-1:]
                self.on_bytes(size)
        return lines + (last != b"\n")

    def _rows(self, places: Sequence[int]) -> Iterator[tuple[int, Sequence[str], str]]:
        records = self._records()
        _, header = next(records)
        empty = [""] * len(places)
        for row, record in records:
            if len(record) == len(header):
                yield row, [record[place] for place in places], ""
            elif record:
                yield row, empty, f"it has {len(record)} columns, but the first row has {len(header)}"

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the line on which each record begins, and its fields."""
        with _long_fields(), self.path.open(encoding="utf-8-sig", newline="") as file:
            records = csv.reader(file, delimiter=self._delimiter, strict=True)
            line = 1
            try:
                for record in records:
                    yield line, record
                    line = records.line_num + 1
            except csv.Error as error:
                raise self.error(
                    f"is not valid CSV from this row on ({error}); correct the quotes", row=line
                ) from None
            except UnicodeDecodeError:
                raise self.error("is not UTF-8; save it as UTF-8", row=self._undecodable()) from None

    def _undecodable(self) -> int:
        """Returns the first line that is not UTF-8."""
        with self.path.open("rb") as file:
            return next(number for number, line in enumerate(file, start=1) if not _is_utf8(line))


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raises Python's limit on the length of a field: a column that is not read may have a long prompt."""
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
