"""Parses YAML text into a checked tree in which every part has a line number.

It accepts only maps, lists, text, whole numbers, decimal numbers, true, false and null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from kling_pricing.errors import TableError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; flatten it"

Path = tuple[str | int, ...]

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)"
)
"""Control characters, line breaks that only YAML recognizes, and marks that change the writing direction."""
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A file's tree, with the line of each part.

    Attributes:
        name: the file's name, for messages.
        tree: maps, lists, text, int, Decimal, bool and None.
        lines: path of a node -> its line, from 1; an entry of a map is on the line of its key.
    """

    name: str
    tree: Any
    lines: dict[Path, int] = field(repr=False)

    def error(self, path: Path, problem: str) -> TableError:
        """Returns the error that points at `path`, or at its nearest ancestor in the file."""
        nearest = path
        while nearest not in self.lines:
            nearest = nearest[:-1]
        return TableError(problem, file=self.name, line=self.lines[nearest], key_path=key_path(path))


def key_path(path: Path) -> str:
    """Formats a path for people: `models.kling-v3.rules[2].need`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def load(data: bytes, *, name: str) -> YamlDocument:
    """Parses one document.

    Args:
        data: the file's bytes.
        name: the file's name, for messages.

    Raises:
        TableError: the text is not YAML, or uses a feature that the package's docstring lists as refused.
    """
    if len(data) > MAX_BYTES:
        raise TableError(f"the file is larger than {MAX_BYTES >> 20} MB; split it", file=name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError("not UTF-8 text; save the file as UTF-8", file=name, line=line) from None
    if invisible := _INVISIBLE.search(text):
        line = text.count("\n", 0, invisible.start()) + 1
        problem = f"invisible character U+{ord(invisible[0]):04X}; remove it"
        raise TableError(problem, file=name, line=line)
    lines: dict[Path, int] = {}
    try:
        return YamlDocument(name, _Builder(name, text, lines).document(), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        number, hint = _line_and_hint(text, mark)
        problem = f"not YAML: {error.problem or error.context}{hint}"
        if "nesting depth" in problem:  # newer parsers have their own limit and reach it first
            problem = _TOO_DEEP
        raise TableError(problem, file=name, line=number) from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise TableError(f"not YAML: {reason}", file=name) from None


def _line_and_hint(text: str, mark: Any) -> tuple[int | None, str]:
    """Returns the line of an error, and a remedy for common mistakes on it.

    The parser often marks an error at the end of a file on the line after the last one.
    """
    lines = text.splitlines()
    if mark is None or not lines:
        return None, ""
    number = min(mark.line + 1, len(lines))
    line = lines[number - 1]
    if "\t" in line[: mark.column + 1]:
        return number, "; indent with spaces instead of tabs"
    if any(f" {sign}" in line for sign in "*&@%`"):
        return number, '; put text that begins with a special character in quotation marks, as in "*"'
    return number, ""


class _Builder:
    """Builds the tree from the parser's events, so that nothing is built before it is checked.

    Events are typed as `Any`: their attributes depend on their class, and the stubs declare only the base.
    """

    def __init__(self, name: str, text: str, lines: dict[Path, int]) -> None:
        self._name = name
        self._lines = lines
        self._events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)

    def document(self) -> Any:
        next(self._events)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        if event.version or event.tags:
            raise self._error(event, (), "directives (%YAML, %TAG) are not supported; remove the line")
        tree = self._node(next(self._events), ())
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, (), "a second document starts here; move it to a separate file")
        return tree

    def _node(self, event: Any, path: Path) -> Any:
        self._lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, path, "aliases (*name) are not supported; write the value itself")
        if event.anchor is not None:
            raise self._error(
                event, path, "anchors (&name) are not supported; repeat the value where it is used"
            )
        if event.tag is not None:
            raise self._error(event, path, f"tags are not supported; remove {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if len(path) >= MAX_DEPTH:
            raise self._error(event, path[:3], _TOO_DEEP)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            here = (*path, key)
            if key in entries:
                first = self._lines[here]
                raise self._error(
                    event, here, f"duplicate key; the first one is on line {first}; keep one of them"
                )
            self._lines[here] = event.start_mark.line + 1
            entries[key] = self._node(next(self._events), here)
        return entries

    def _key(self, event: Any, path: Path) -> str:
        plain = isinstance(event, yaml.ScalarEvent) and event.tag is None and event.anchor is None
        key = _scalar(event) if plain else None
        if not isinstance(key, str):
            raise self._error(
                event,
                path,
                'a key must be text without an anchor or tag; put it in quotation marks, as in "720":',
            )
        return key

    def _error(self, event: Any, path: Path, problem: str) -> TableError:
        line = event.start_mark.line + 1
        return TableError(problem, file=self._name, line=line, key_path=key_path(path))


def _scalar(event: Any) -> Any:
    text = event.value
    if not event.implicit[0]:  # quoted, or a block of text
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text
