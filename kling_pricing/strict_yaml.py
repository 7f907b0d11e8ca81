"""YAML that means what it looks like: text -> checked tree, every error with its file, line and key path.

A file of prices is reviewed by people and read by a machine; both must see the same.
So only the plain part of YAML is read: maps, lists, text, whole numbers, decimals, true, false and null.
Refused: duplicate keys, anchors, aliases, tags, directives, several documents, keys that are not text, bytes
that are not UTF-8, characters that cannot be seen, nesting deeper than `MAX_DEPTH`, and files larger than
`MAX_BYTES`.
Numbers are exact: `0.0714` becomes a `Decimal`, never a float.
What YAML 1.1 would turn into something else stays text (`010`, `1:30`, `no`, `1e3`, `2026-04-29`), and a model
that expects a number or a boolean there says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import TableError
from kling_pricing.money import price_from_text

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; flatten it"

Path = tuple[str | int, ...]
_Model = TypeVar("_Model", bound="FileModel")

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)"
)
"""Control characters, line ends that only YAML sees, and marks that turn the direction of writing."""
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}


class FileModel(BaseModel):
    """Base of what may stand in a file: frozen, strictly typed, unknown keys refused with a did-you-mean."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = [info.alias or name for name, info in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key; {remedy}",
                        {"key": key, "remedy": did_you_mean(key, known)},
                    )
        return value


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A file's tree and where each part of it stands.

    Attributes:
        name: the file's name, for messages.
        tree: maps, lists, text, int, Decimal, bool and None.
        lines: path of a node -> its line, from 1; a map's entry stands where its key does.
    """

    name: str
    tree: Any
    lines: dict[Path, int] = field(repr=False)

    def error(self, path: Path, problem: str) -> TableError:
        """Makes the error that points at `path`, or at its nearest parent that stands in the file."""
        known = path
        while known not in self.lines:
            known = known[:-1]
        return TableError(problem, file=self.name, line=self.lines[known], key_path=key_path(path))


def key_path(path: Path) -> str:
    """Writes a path as people do: `models.kling-v3.rules[2].need`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def load(data: bytes, *, name: str) -> YamlDocument:
    """Reads one document.

    Args:
        data: the file's bytes.
        name: the file's name, for messages.

    Raises:
        TableError: anything this module's description refuses, or text that is not YAML.
    """
    if len(data) > MAX_BYTES:
        raise TableError(
            f"the file is larger than {MAX_BYTES} bytes; split it into one file a table", file=name
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError("not UTF-8 text; save the file as UTF-8", file=name, line=line) from None
    if hidden := _HIDDEN.search(text):
        line = text.count("\n", 0, hidden.start()) + 1
        problem = f"the character U+{ord(hidden[0]):04X} is read and not seen; remove it"
        raise TableError(problem, file=name, line=line)
    lines: dict[Path, int] = {}
    try:
        return YamlDocument(name, _Builder(name, text, lines).document(), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"not YAML: {error.problem or error.context}{_hint(text, mark)}"
        if "nesting depth" in problem:  # of the parser's own, which newer ones have, and which reads ahead
            problem = _TOO_DEEP
        raise TableError(problem, file=name, line=mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise TableError(f"not YAML: {str(error).splitlines()[0]}", file=name) from None


def _hint(text: str, mark: Any) -> str:
    """What to do about text that means something else in YAML."""
    if mark is None or mark.line >= text.count("\n") + 1:
        return ""
    line = text.splitlines()[mark.line] if text.splitlines() else ""
    if "\t" in line[: mark.column + 1]:
        return "; indent with spaces, not with tabs"
    if any(f" {sign}" in line for sign in "*&@%`"):
        return '; quote text that begins with a sign, as in "*"'
    return ""


def read(data: bytes, model: type[_Model], *, name: str) -> tuple[_Model, YamlDocument]:
    """Reads one document and checks it against its model.

    Raises:
        TableError: as for `load`, and for the first thing in the file that the model refuses.
    """
    document = load(data, name=name)
    return checked(document, model), document


def checked(document: YamlDocument, model: type[_Model]) -> _Model:
    """Checks a document against its model.

    Raises:
        TableError: for the first thing in the file that the model refuses.
    """
    if document.tree is None:
        needed = [name for name, info in model.model_fields.items() if info.is_required()]
        raise TableError(f"the file is empty; it needs {', '.join(needed)}", file=document.name)
    try:
        return model.model_validate(document.tree)
    except ValidationError as error:
        problems = [explained(details) for details in error.errors(include_url=False)]
        found = [(document.error(path, problem), path) for path, problem in problems]
        first, _ = min(found, key=lambda item: item[0].line or 0)
        raise first from None


def explained(details: ErrorDetails) -> tuple[Path, str]:
    """Turns one of pydantic's findings into a path and a sentence with a remedy."""
    path: Path = details["loc"]
    kind, value = details["type"], details["input"]
    if kind == "unknown_key":
        return (*path, details["ctx"]["key"]), details["msg"]
    if kind == "missing":
        return path, "this key is required; add it"
    path = path[:-1] if path and path[-1] == "[key]" else path
    if kind == "too_short":
        return path, "must not be empty; add at least one"
    if kind == "model_type":
        return path, "must be a map of keys and values"
    message = details["msg"].removeprefix("Value error, ")
    if kind.endswith(("_type", "_parsing")):
        shown = "nothing" if value is None else f"{value!r}"[:60]
        quoted = " (quote it, or remove the quotes, so that it is of that kind)" if value is not None else ""
        return path, f"{message.replace('Input should be', 'must be')}, got {shown}{quoted}"
    return path, message.replace("Input should be", "must be")


class _Builder:
    """Builds the tree from parser events, so that nothing is constructed before it has been allowed.

    (The events are `Any`: which attributes one has depends on its class, and the stubs know only the base.)
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
            raise self._error(event, (), "directives (%YAML, %TAG) are not read; remove the line")
        tree = self._node(next(self._events), ())
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, (), "a second document begins here; write one file each")
        return tree

    def _node(self, event: Any, path: Path) -> Any:
        self._lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, path, "aliases (*name) are not read; write the value out")
        if event.anchor is not None:
            raise self._error(event, path, "anchors (&name) are not read; write the value out where it is used")
        if event.tag is not None:
            raise self._error(event, path, f"tags ({event.tag}) are not read; remove it")
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
                raise self._error(event, here, f"duplicate key, first on line {first}; keep one of them")
            self._lines[here] = event.start_mark.line + 1
            entries[key] = self._node(next(self._events), here)
        return entries

    def _key(self, event: Any, path: Path) -> str:
        plain = isinstance(event, yaml.ScalarEvent) and event.tag is None and event.anchor is None
        key = _scalar(event) if plain else None
        if not isinstance(key, str):
            raise self._error(event, path, 'a key must be text without anchor or tag; quote it, as in "720":')
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


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


_FIRST_YEAR, _LAST_YEAR = 2000, 2200


def _price(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return price_from_text(format(value, "f"))
    if isinstance(value, str) or type(value) is int:
        return price_from_text(str(value))
    problem = f"must be an amount such as 0.0714, got {value!r}"
    if isinstance(value, float):
        problem = f"must be exact, which the float {value!r} is not; write it as text or as a Decimal"
    raise ValueError(problem)


def _instant(value: Any) -> datetime:
    problem = f"{value!r} is neither a day (2026-04-29) nor an instant with its zone (2026-04-29T08:00:00Z)"
    try:
        if _DAY.fullmatch(value):
            value += "T00:00:00Z"
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(problem) from None
    if "W" in value or instant.tzinfo is None or not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise ValueError(problem)
    return instant.astimezone(UTC)


def _day(value: Any) -> date:
    try:
        if _DAY.fullmatch(value) and _FIRST_YEAR <= (day := date.fromisoformat(value)).year <= _LAST_YEAR:
            return day
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{value!r} is not a day such as 2026-04-29")


def matching_text(pattern: str, words: str) -> Callable[[Any], str]:
    """Returns a validator for text that matches a pattern; `words` describe the pattern in its error."""
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {words}, got {shown(value)}")
        return value

    return read


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]


Name: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(r"[a-z0-9][a-z0-9._-]*", "small letters, digits, points and hyphens, such as 720p")
    ),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]*$"}),
]


Code: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(r"[a-z][a-z0-9_]*", "small letters, digits and underscores, such as silent")),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}),
]


UrlPath: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(r"(/[A-Za-z0-9._~-]+)+", "the path of a URL, such as /v1/videos")),
    WithJsonSchema({"type": "string", "pattern": "^(/[A-Za-z0-9._~-]+)+$"}),
]


Currency: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(r"[A-Z]{3}", "three capital letters, as ISO 4217 has them, such as USD")),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"}),
]


Price: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_price),
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "minimum": 0,
            "description": "Exact price with at most 9 decimals, quoted or not.",
        }
    ),
]


Instant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "description": "A day (its UTC midnight) or an instant with its zone."}),
]


Day: TypeAlias = Annotated[
    date,
    BeforeValidator(lambda value: value if type(value) is date else _day(value)),
    WithJsonSchema({"type": "string", "description": "A day: 2026-04-29."}),
]
