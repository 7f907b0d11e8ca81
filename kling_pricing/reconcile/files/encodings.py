"""Decodes text files: in UTF-8, in the encoding of a byte order mark, or in the one that the user gives."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from itertools import count
from pathlib import Path

_BLOCK = 1 << 20
_MARKS = {
    codecs.BOM_UTF8: None,
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"\x84\x31\x95\x33": "gb18030",
}
"""Byte order mark -> encoding; None: UTF-8."""


def known_encoding(name: str) -> bool:
    """Returns whether a name is that of a text encoding."""
    try:
        "".encode(name)
        return b"".decode(name) == ""
    except (LookupError, ValueError):
        return False


def in_utf8(path: Path, encoding: str | None, folder: Path, error: Callable[..., Exception]) -> Path:
    """Returns the path of a file in UTF-8: the file itself, or a converted copy.

    Args:
        path: the path of the file.
        encoding: the encoding of a file that does not begin with a byte order mark; None: UTF-8.
        folder: the folder for the copy.
        error: creates the error for a problem in a row of the file.

    Raises:
        StatementError: the file is not text in its encoding.
    """
    with path.open("rb") as file:
        start = file.read(_BLOCK)
    marked = next((mark for mark in _MARKS if start.startswith(mark)), None)
    used = encoding if marked is None else _MARKS[marked]
    if used is None:
        if b"\x00" in start:
            raise error(
                "is not UTF-8 text; if it is UTF-16 without a byte order mark, add --encoding utf-16-le"
            )
        return path
    copies = (folder / f"decoded-{number}{path.suffix.lower()}" for number in count(1))
    copy = next(candidate for candidate in copies if not candidate.exists())
    row = 1
    try:
        with path.open(encoding=used, newline="") as text, copy.open("w", encoding="utf-8", newline="") as file:
            while part := text.readline(_BLOCK):  # a line may not fit into memory
                file.write(part)
                row += part.endswith("\n")
    except UnicodeDecodeError as problem:
        row += problem.object[: problem.start].count(b"\n")
        raise error(f"is not {used} text; give its encoding with --encoding", row=row) from None
    return copy
