"""Text on its way into the database: files of lines whose fields are parted by a mark that no field has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from kling_pricing.ledger.model import SENT_SEPARATOR

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_CHARS = 400
"""Of a field: more than anything that is read may have."""


def literal(text: str) -> str:
    """Text as SQL writes it."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def separated(path: Path, types: Mapping[str, str]) -> str:
    """The lines of a file as a table in SQL: column -> type; an empty field is NULL."""
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return (
        f"read_csv({literal(str(path))}, auto_detect = false, header = false, "
        f"delim = {literal(SENT_SEPARATOR)}, quote = '', escape = '', new_line = '\\n', "
        f"nullstr = '', columns = {{{columns}}})"
    )


class RowFile:
    """A file of rows that Python has read, each with its number and perhaps with what is wrong with it.

    Args:
        path: where to write it.
        columns: of a row.
    """

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._file = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, row: int, texts: Iterable[str], fault: str = "") -> None:
        """Adds a row; what is longer than anything that may be read is cut, what cannot be seen is replaced."""
        self._file.write(SENT_SEPARATOR.join((str(row), fault, *map(_plain, texts))) + "\n")

    def relation(self) -> str:
        """The rows as a table in SQL: `row`, `fault`, and the columns as c0, c1 ..."""
        types = {"row": "BIGINT", "fault": "VARCHAR"}
        return separated(self._path, types | {f"c{place}": "VARCHAR" for place, _ in enumerate(self._columns)})

    def texts(self) -> dict[str, str]:
        """Column -> the SQL of its text."""
        return {name: f"c{place}" for place, name in enumerate(self._columns)}


def _plain(text: str) -> str:
    if text.isprintable() and len(text) <= _MAX_CHARS:
        return text
    return _CONTROL.sub("\ufffd", text[: _MAX_CHARS + 1])
