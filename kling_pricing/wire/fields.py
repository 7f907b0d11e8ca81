"""What the wire formats share: what a field may hold, and what is wrong with it in the wire's own words.

Values must be what they are: `"5"`, 5.0 and true are no whole numbers.
Null is the same as leaving the field out.
(Written by hand, because every request pays for it: a fraction of what a pydantic model takes, and the messages
need no translation.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.display import did_you_mean, json_kind, reportable, shown
from kling_pricing.findings import Violation


class Problems(list[Violation]):
    """What is wrong with a payload so far, and whether unknown fields are."""

    allow_unknown = False


Check: TypeAlias = Callable[[Any, str, Problems], None]

_KINDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_SOURCE = "the API's parameter list"


class Field(NamedTuple):
    """One field of a payload.

    Attributes:
        name: the input it says, in words that do not depend on the API.
        kind: its JSON type: str, int, bool, list or dict; object where `check` decides.
        check: looks further into the value, and adds what is wrong to the problems.
        read: makes what the value says of one that is as it should be: `pro` -> `1080p`.
        inside: the fields of the object that it holds, where these are inputs of their own and it is none.
        stated: the fact that it is given at all, where rules speak of that.
    """

    name: str
    kind: type
    check: Check | None = None
    read: Callable[[Any], Any] | None = None
    inside: Mapping[str, Field] = {}
    stated: str = ""


def not_empty(value: str, path: str, problems: Problems) -> None:
    """Checks a URL: any text, but there must be one."""
    if not value:
        problems.append(wrong(path, "text that is not empty", value))


def number(value: Any, path: str, problems: Problems) -> None:
    """Checks a number, whole or not; its field's kind is object, because JSON has two types for it."""
    if type(value) is int or (type(value) is float and isfinite(value)):
        return
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or not decimal(value).is_finite():
        problems.append(wrong(path, "a number", value))


def decimal(value: Any) -> Decimal:
    """A number of a payload, as its JSON writes it: 0.1 is one tenth."""
    return Decimal(str(value)) if isinstance(value, float) else Decimal(value)


def each(kind: type, check: Check | None = None) -> Check:
    """Checks every element of a list."""

    def check_all(values: Sequence[Any], path: str, problems: Problems) -> None:
        for place, value in enumerate(values):
            if not is_kind(value, kind):
                problems.append(wrong_kind(f"{path}[{place}]", kind, value))
            elif check is not None:
                check(value, f"{path}[{place}]", problems)

    return check_all


class Alternatives(tuple[str, ...]):
    """Checks that text is one of some words."""

    __slots__ = ()

    def __call__(self, value: str, path: str, problems: Problems) -> None:
        """Adds a problem when it is not."""
        if value not in self:
            problems.append(wrong(path, " or ".join(self), value))


def one_of(*words: str) -> Check:
    """Checks that text is one of some words."""
    return Alternatives(words)


def object_with(fields: Mapping[str, Field], *, required: Sequence[str] = ()) -> Check:
    """Checks an object inside the payload, whose unknown fields are treated like the payload's own."""

    def check(value: Mapping[str, Any], path: str, problems: Problems) -> None:
        for name in required:
            if value.get(name) is None:
                problems.append(wrong(f"{path}.{name}", "present", None))
        for name, inner in value.items():
            if inner is None:
                continue
            field = fields.get(name)
            if field is None:
                if not problems.allow_unknown:
                    problems.append(unknown_field(name, inner, fields, path=f"{path}.{name}"))
            elif not is_kind(inner, field.kind):
                problems.append(wrong_kind(f"{path}.{name}", field.kind, inner))
            elif field.check is not None:
                field.check(inner, f"{path}.{name}", problems)

    return check


def folded(text: str) -> str:
    """Text in lower case, as far as it is ASCII: `4K` is 4k, and a letter that only looks like K is not."""
    return text.lower() if text.isascii() else text


def wrong(path: str, expected: str, value: Any) -> Violation:
    """The violation for a value of another kind than the API reads."""
    got = "" if value is None else f", got {_got(value)}"
    return Violation(
        "wrong_type", path, reportable(value), expected, f"{path} must be {expected}{got}", _SOURCE
    )


def wrong_kind(path: str, kind: type, value: Any) -> Violation:
    """The violation for a value of another JSON type than the field's."""
    return wrong(path, _KINDS[kind], value)


def unknown_field(name: Any, value: Any, fields: Mapping[str, Field], path: str | None = None) -> Violation:
    """The violation for a field that the API does not list; `path` is where it stands, if not at the top."""
    known = list(fields)
    remedy = did_you_mean(str(name).lower(), known)
    field = str(name) if path is None else path
    return Violation(
        "unknown_field", field, reportable(value), known, f"unknown field {field!r}; {remedy}", _SOURCE
    )


def is_kind(value: Any, kind: type) -> bool:
    """Whether a value is of a field's JSON type: true is no whole number, and a tuple is a list."""
    if type(value) is kind:  # nearly every value, and a much faster question than the next
        return True
    if kind is list:
        return isinstance(value, list | tuple)
    if kind is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _got(value: Any) -> str:
    """A value of the wrong kind for a message: quoted if it is text, else plain; objects and lists by name."""
    if isinstance(value, str):
        return ascii(reportable(value))
    return shown(value) if isinstance(value, bool | int | float) else json_kind(value)
