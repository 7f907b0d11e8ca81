"""Reads statements in JSON: objects, arrays, or responses that contain arrays; numbers keep every digit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeAlias

from kling_pricing.display import json_kind
from kling_pricing.errors import WireFormatError
from kling_pricing.reconcile.files.file_reader import (
    MAX_COLUMNS,
    MAX_LINE,
    TOO_MANY_COLUMNS,
    FileReader,
    Layout,
    RowSource,
    at_path,
    has_column,
    text_of,
)
from kling_pricing.strict_json import EXACT_JSON, json_value

_LINES = (".jsonl", ".ndjson")
_ROWS_PER_REPORT = 5000
"""The number of rows between two reports of progress."""

_MAX_DEPTH, _MAX_LISTS = 6, 20
"""How deep lists of rows are looked for in an object, and how many of them."""

_MAX_WHOLE_BYTES = 1 << 28
"""The maximum size of a file that is read as a whole because it does not have one object per line."""

Item: TypeAlias = Mapping[str, Any] | str
"""An object, or the fault of a row that is not an object, in words."""


class JsonReader(FileReader):
    """A reader of one JSON file: one object per line, an array of objects, or one object.

    An object with a list at one of the paths in `layout.rows` is replaced by the objects in the list. If the
    rows are at none of these paths, every list of objects in the first object is tried.
    """

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        return self._columns_with(None)

    def layouts(
        self, prescribed: Layout, wanted: Sequence[Sequence[str]] | None = None
    ) -> Iterator[tuple[Layout, Sequence[str]]]:
        """See `FileReader.layouts`."""
        self.layout = prescribed
        yield prescribed, self._columns_with(wanted)
        for path in self._lists:
            if path not in prescribed.rows:
                self.layout = prescribed._replace(rows=(path,))
                yield self.layout, self._columns_with(wanted)

    def objects(self) -> Iterator[tuple[int, Item]]:
        """See `FileReader.objects`."""
        if self.path.suffix.lower() in _LINES:
            for row, item in self._lines():
                for element in self._elements(item):
                    yield row, element
            return
        whole = self._whole if isinstance(self._whole, list) else [self._whole]
        elements = (element for item in whole for element in self._elements(_object(item)))
        yield from enumerate(elements, start=1)

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        del exact  # numbers keep every digit
        absent = set(columns)
        source = self.staged(columns, (_row(row, item, columns, absent) for row, item in self.objects()))
        present = {name: text for name, text in source.texts.items() if name not in absent}
        return source._replace(texts=present)

    def _columns_with(self, wanted: Sequence[Sequence[str]] | None) -> list[str]:
        """Returns the columns of the first rows, up to the row in which the last wanted column is found.

        Args:
            wanted: the possible names of each wanted column; None: the columns of all rows are returned.
        """
        names, items = self._seen.setdefault(self.layout.rows, ({}, self.objects()))
        while wanted is None or not all(any(has_column(names, name) for name in group) for group in wanted):
            _, item = next(items, (0, None))
            if item is None:
                break
            if isinstance(item, Mapping) and not names.keys() >= item.keys():
                names |= dict.fromkeys(_paths(item, ""))
                if len(names) > MAX_COLUMNS:
                    raise self.error(TOO_MANY_COLUMNS)
        if not names and wanted != ():
            raise self.error(
                "has no rows; leave the file out, or write one JSON object per line or an array of objects"
            )
        return list(names)

    @cached_property
    def _lists(self) -> Sequence[str]:
        """The paths in the first object at which it has lists of objects."""
        layout, self.layout = self.layout, Layout()
        _, first = next(self.objects(), (0, None))
        self.layout = layout
        return [*islice(_list_paths(first, "", _MAX_DEPTH), _MAX_LISTS)] if isinstance(first, Mapping) else []

    @cached_property
    def _seen(self) -> dict[tuple[str, ...], tuple[dict[str, None], Iterator[tuple[int, Item]]]]:
        """Paths of the lists of rows -> the columns found so far, and the rows not yet searched."""
        return {}

    @cached_property
    def _whole(self) -> Any:
        if self.text_path.stat().st_size > _MAX_WHOLE_BYTES:
            raise self.error(
                f"is larger than {_MAX_WHOLE_BYTES >> 20} MB; write one JSON object per line into a .jsonl file"
            )
        try:
            return json_value(self.text_path.read_bytes(), decoder=EXACT_JSON)
        except WireFormatError as error:
            raise self.error(
                f"{error}; if the file has one object per line, its name must end in .jsonl"
            ) from None

    def _lines(self) -> Iterator[tuple[int, Item]]:
        size = 0
        with self.text_path.open("rb") as file:
            for row, line in enumerate(iter(partial(file.readline, MAX_LINE + 1), b""), start=1):
                if len(line) > MAX_LINE:
                    raise self.error("has a line that is too long; write one JSON object per line", row=row)
                size += len(line)
                if row % _ROWS_PER_REPORT == 0:
                    self.on_bytes(size)
                if line.strip():
                    yield row, self._line(line, row)

    def _line(self, line: bytes, row: int) -> Item:
        try:
            return _object(json_value(line, decoder=EXACT_JSON))
        except WireFormatError as error:
            if isinstance(error.__context__, UnicodeDecodeError):
                raise self.error(
                    "is not UTF-8 text; save it as UTF-8, or give its encoding with --encoding", row=row
                ) from None
            return str(error)

    def _elements(self, item: Item) -> Iterator[Item]:
        """Yields the rows in an object, or the object itself if it has no list of rows."""
        if isinstance(item, Mapping):
            for path in self.layout.rows:
                listed = at_path(item, path)
                if isinstance(listed, list):
                    yield from map(_object, listed)
                    return
        yield item


def _object(value: Any) -> Item:
    """Returns the object that a value is or contains as text; if there is none, its fault in words."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = json_value(value, decoder=EXACT_JSON)
        except WireFormatError as error:
            return str(error)
    return value if isinstance(value, Mapping) else f"it is {json_kind(value)}, not an object"


def _row(row: int, item: Item, columns: Sequence[str], absent: set[str]) -> tuple[int, Sequence[str], str]:
    """Returns a row's number, texts and fault, and removes the columns that it has from `absent`."""
    if isinstance(item, str):
        return row, [""] * len(columns), item
    values = [at_path(item, column) for column in columns]
    if absent:
        absent.difference_update(
            column for column, value in zip(columns, values, strict=True) if value is not None or column in item
        )
    texts = [text_of(value) for value in values]
    fault = f"{columns[texts.index(None)]} is a list or an object" if None in texts else ""
    return row, [text or "" for text in texts], fault


def _list_paths(item: Mapping[str, Any], prefix: str, depth: int) -> Iterator[str]:
    """Yields the paths of the lists of objects in an object."""
    for name, value in item.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping) and depth > 1:
            yield from _list_paths(value, f"{prefix}{name}.", depth - 1)


def _paths(item: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yields the paths of all values in an object, including nested objects, that are not objects."""
    for name, value in item.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
