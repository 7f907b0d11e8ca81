"""Staging files: text on its way into the database, one row per line, a control character between fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from kling_pricing.ledger.sent_lines import SENT_SEPARATOR

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and halves of characters, which JSON can write and UTF-8 cannot."""
_MAX_CHARS = 400
"""Of a field: more than the database accepts for any column that it reads."""


def literal(text: str) -> str:
    """Returns a text as a literal in SQL."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def matches(text: str, pattern: str) -> str:
    """Returns the SQL condition that a text as a whole matches a pattern."""
    return f"regexp_full_match({text}, {literal(pattern)})"


def separated(path: Path, types: Mapping[str, str]) -> str:
    """Returns the SQL that reads a staging file as a table of these columns; an empty field is NULL."""
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return (
        f"read_csv({literal(str(path))}, auto_detect = false, header = false, "
        f"delim = {literal(SENT_SEPARATOR)}, quote = '', escape = '', new_line = '\\n', "
        f"nullstr = '', columns = {{{columns}}})"
    )


class RowFile:
    """A staging file of rows that Python has read, each with its number and, if it has one, its fault.

    Args:
        path: where to write the file.
        columns: the columns of a row.
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
        """Adds a row; texts that are too long to be valid are cut.

        A tab becomes a space, and any other control character becomes U+FFFD.
        """
        self._file.write(SENT_SEPARATOR.join((str(row), _clean(fault), *map(_clean, texts))) + "\n")

    def relation(self) -> str:
        """Returns the SQL that reads the rows as a table: `row`, `fault`, and the columns as c0, c1, ..."""
        types = {"row": "BIGINT", "fault": "VARCHAR"}
        return separated(self._path, types | {f"c{place}": "VARCHAR" for place, _ in enumerate(self._columns)})

    def texts(self) -> dict[str, str]:
        """Returns the SQL of each column's text, by column."""
        return {name: f"c{place}" for place, name in enumerate(self._columns)}


def _clean(text: str) -> str:
    if text.isprintable() and len(text) <= _MAX_CHARS:
        return text
    return _CONTROL.sub("\ufffd", text[: _MAX_CHARS + 1].replace("\t", " "))
