"""Statements as JSON: one object per line, or an array of objects; numbers keep every digit."""

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
_ROWS_PER_REPORT = 5000
"""Rows between two reports of progress."""


class JsonReader(FileReader):
    """One file of JSON, in UTF-8."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        for _, item in self.objects():
            if isinstance(item, Mapping):
                return list(_paths(item, ""))
        raise self.error("has no JSON object; write one per line, or an array of objects")

    def objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """See `FileReader.objects`."""
        return self._lines() if self.path.suffix.lower() in _LINES else self._elements()

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        del exact  # numbers keep every digit
        return self.staged(columns, (_row(row, item, columns) for row, item in self.objects()))

    def _lines(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        size = 0
        with self.path.open("rb") as file:
            for row, line in enumerate(file, start=1):
                size += len(line)
                if row % _ROWS_PER_REPORT == 0:
                    self.on_bytes(size)
                if line.strip():
                    yield row, self._object(line, row)

    def _elements(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        try:
            whole = json_value(self.path.read_bytes(), decoder=EXACT_JSON)
        except WireFormatError as error:
            raise self.error(f"{error}; if it has one object per line, its name must end in .jsonl") from None
        for row, item in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield row, item if isinstance(item, Mapping) else f"it is {json_kind(item)}, not an object"

    def _object(self, line: bytes, row: int) -> Mapping[str, Any] | str:
        try:
            item = json_value(line, decoder=EXACT_JSON)
        except WireFormatError as error:
            if isinstance(error.__context__, UnicodeDecodeError):
                raise self.error("is not UTF-8; save it as UTF-8", row=row) from None
            return str(error)
        return item if isinstance(item, Mapping) else f"it is {json_kind(item)}, not an object"


def at_path(item: Mapping[str, Any], path: str) -> Any:
    """Returns the value of a column by its name, or by its path; None: the object does not have it."""
    if path in item:
        return item[path]
    value: Any = item
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def text_of(value: Any) -> str | None:
    """Returns the text of a value, with every digit of a number; None: it is a list or an object."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return digits(value)
    return str(value) if isinstance(value, str | int) else None


def digits(number: Decimal) -> str:
    """Returns a number in plain digits; a number with too many digits for an amount keeps its exponent."""
    exponent = number.as_tuple().exponent
    plain = isinstance(exponent, int) and max(abs(exponent), abs(number.adjusted())) <= _MAX_DIGITS
    return format(number, "f") if plain else str(number)


def _row(row: int, item: Mapping[str, Any] | str, columns: Sequence[str]) -> tuple[int, Sequence[str], str]:
    if isinstance(item, str):
        return row, [""] * len(columns), item
    texts = [text_of(at_path(item, column)) for column in columns]
    if None in texts:
        return row, [""] * len(columns), f"{columns[texts.index(None)]} is a list or an object"
    return row, [text or "" for text in texts], ""


def _paths(item: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in item.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
