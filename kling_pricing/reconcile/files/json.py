"""Statements as JSON: an object a line, or an array of them; numbers are read as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.display import json_kind
from kling_pricing.errors import WireFormatError
from kling_pricing.reconcile.files.file_reader import FileReader, RowSource
from kling_pricing.strict_json import EXACT_JSON, json_value

_LINES = (".jsonl", ".ndjson")
_MAX_DIGITS = 300
_TOLD_EVERY = 5000
"""Rows between two tidings of how far the reading is."""


class JsonReader(FileReader):
    """One file of JSON, in UTF-8."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        for _, found in self.objects():
            if isinstance(found, Mapping):
                return list(_paths(found, ""))
        raise self.error("holds no JSON object; write one a line, or an array of them")

    def objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """See `FileReader.objects`."""
        return self._lines() if self.path.suffix.lower() in _LINES else self._elements()

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        del exact  # numbers are read as they are written
        return self.staged(columns, (_row(row, found, columns) for row, found in self.objects()))

    def _lines(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        size = 0
        with self.path.open("rb") as file:
            for row, line in enumerate(file, start=1):
                size += len(line)
                if row % _TOLD_EVERY == 0:
                    self.on_bytes(size)
                if line.strip():
                    yield row, self._object(line, row)

    def _elements(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        try:
            whole = json_value(self.path.read_bytes(), decoder=EXACT_JSON)
        except WireFormatError as error:
            raise self.error(f"{error}; a file of one object a line ends in .jsonl") from None
        for row, found in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield row, found if isinstance(found, Mapping) else f"it is {json_kind(found)}, not an object"

    def _object(self, line: bytes, row: int) -> Mapping[str, Any] | str:
        try:
            found = json_value(line, decoder=EXACT_JSON)
        except WireFormatError as error:
            if isinstance(error.__context__, UnicodeDecodeError):
                raise self.error("not UTF-8 text; save it as UTF-8", row=row) from None
            return str(error)
        return found if isinstance(found, Mapping) else f"it is {json_kind(found)}, not an object"


def at_path(found: Mapping[str, Any], path: str) -> Any:
    """The value of a column: of that name, or at that path; None: there is none."""
    if path in found:
        return found[path]
    value: Any = found
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def text_of(value: Any) -> str | None:
    """The text of a value; a number's digits are those that were written. None: it is a list or an object."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return digits(value)
    return str(value) if isinstance(value, str | int) else None


def digits(number: Decimal) -> str:
    """A number in plain digits; one with so many that it can be no amount stays as it is written."""
    exponent = number.as_tuple().exponent
    plain = isinstance(exponent, int) and max(abs(exponent), abs(number.adjusted())) <= _MAX_DIGITS
    return format(number, "f") if plain else str(number)


def _row(row: int, found: Mapping[str, Any] | str, columns: Sequence[str]) -> tuple[int, Sequence[str], str]:
    if isinstance(found, str):
        return row, [""] * len(columns), found
    texts = [text_of(at_path(found, column)) for column in columns]
    if None in texts:
        return row, [""] * len(columns), f"{columns[texts.index(None)]} is a list or an object"
    return row, [text or "" for text in texts], ""


def _paths(found: Mapping[str, Any], before: str) -> Iterator[str]:
    for name, value in found.items():
        yield f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}.")
