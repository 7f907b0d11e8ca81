"""Paths of URLs: the ways in which servers may read a spelling, and the patterns of listed paths.

Servers differ. One decodes a path twice, another folds its case, resolves its dots or drops what follows a `;`.
So a path passes without a price only if it means the same in every reading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Segments: TypeAlias = tuple[str, ...]
"""A path, split at its slashes, without empty segments."""

_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@/-]*")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_UNREADABLE = re.compile("[\x00-\x1f\x7f\ufffd]")
_MAX_DECODINGS = 3
"""How often a path is decoded; a path that is encoded more often has no reading."""

REST = "*"
"""The last segment of a pattern that matches the path before it and everything below that."""


def unquoted(text: str) -> str:
    """Returns text with its percent-encoded characters decoded once; bytes that are not UTF-8 become U+FFFD."""
    return _ENCODED.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode(errors="replace"), text)


def literal_segments(path: str) -> Segments:
    """Returns the segments of a path as most servers read it: split at its slashes, then decoded once."""
    return tuple([unquoted(part) for part in path.split("/") if part])


def readings(path: str) -> tuple[Segments, ...]:
    """Returns every way in which a server may read a path.

    The first is the literal one. The result is empty if the path has control characters, is not valid UTF-8, or
    is encoded more than three times: no list of its readings would be complete.
    """
    literal = literal_segments(path)
    if _PLAIN.fullmatch(path) and not {".", ".."} & set(literal):
        return tuple(dict.fromkeys((literal, lenient_segments(literal))))
    found = {literal: None}
    text = path
    for _ in range(_MAX_DECODINGS):
        text, encoded = unquoted(text), text
        if _UNREADABLE.search(text):
            return ()
        for variant in (text, unicodedata.normalize("NFKC", text)):
            found |= dict.fromkeys(_variants(variant.replace("\\", "/")))
        if text == encoded:
            return tuple(found)
    return ()


def _variants(text: str) -> list[Segments]:
    parts = tuple([part for part in text.split("/") if part])
    without_parameters = tuple([part.partition(";")[0] for part in parts])
    return [parts, lenient_segments(parts), lenient_segments(without_parameters)]


def lenient_segments(path: str | Sequence[str]) -> Segments:
    """Returns a path as the most lenient server reads it: trimmed, without dots, and in lower case."""
    parts = path.split("/") if isinstance(path, str) else path
    segments: list[str] = []
    for part in parts:
        name = part.strip().casefold()
        if name == "..":
            segments[-1:] = []
        elif name := name.rstrip(". "):
            segments.append(name)
    return tuple(segments)


class PathPattern(NamedTuple):
    """A pattern of paths, such as `/v1/chat/*` or `/v1/tasks/{task_id}/cancel`.

    Attributes:
        text: the pattern as written. A segment in braces matches any one segment. `/*` at the end matches the
            path before it and every path below that.
        segments: its segments, without the final `*`.
        below: whether it matches the paths below as well.
    """

    text: str
    segments: Segments
    below: bool

    @classmethod
    def of(cls, text: str) -> PathPattern:
        """Returns the pattern of a text."""
        segments = tuple(text.strip("/").split("/"))
        below = segments[-1] == REST
        return cls(text, segments[:-1] if below else segments, below)

    def matches(self, segments: Segments) -> bool:
        """Returns whether the pattern matches a path, from the path's first segment on."""
        return (
            len(segments) == len(self.segments) or (self.below and len(segments) > len(self.segments))
        ) and all(
            pattern == segment or pattern[0] == "{"
            for pattern, segment in zip(self.segments, segments, strict=False)
        )


def is_below(segments: Segments, above: Segments) -> bool:
    """Returns whether a path is at or below another one, with any prefix before both."""
    return any(segments[start : start + len(above)] == above for start in range(len(segments) - len(above) + 1))
