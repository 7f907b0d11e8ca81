"""What the wire formats share: reading fields strictly, with every problem in the wire's own words.

Values must be what they are: `"5"`, 5.0 and true are no whole numbers.
Null is the same as leaving the field out.
(Written by hand, because every request pays for it: about a third of what a pydantic model takes, and the
messages need no translation.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import WireFormatError
from kling_pricing.findings import Violation, json_kind, reportable, shown


class Problems(list[Violation]):
    """What is wrong with a payload so far, and whether unknown fields are."""

    def __init__(self, *, allow_unknown: bool) -> None:
        super().__init__()
        self.allow_unknown = allow_unknown


Check: TypeAlias = Callable[[Any, str, Problems], None]

_KINDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    Decimal: "a number",
}
_SOURCE = "the API's parameter list"


class Field(NamedTuple):
    """One field of a payload.

    Attributes:
        name: the input it says, in words that do not depend on the API.
        kind: its JSON type: str, int, bool, list or dict; Decimal for any number; object where `check` decides.
        check: looks further into the value, and adds what is wrong to the problems.
    """

    name: str
    kind: type
    check: Check | None = None


class _Nothing:
    """The kind of no JSON value."""


_NO_FIELD = Field("", _Nothing)


def read_fields(
    fields: Mapping[str, Field], payload: Mapping[str, Any], *, wire_format: str, allow_unknown: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """The payload's known fields that are not null.

    Returns:
        name -> value, and name -> the field that says it.

    Raises:
        WireFormatError: with one violation for every field that is unknown or of another type.
    """
    values, said = {}, {}
    problems: Problems | None = None
    for name, value in payload.items():
        if value is None:
            continue
        meaning, kind, check = fields.get(name, _NO_FIELD)
        if check is None and type(value) is kind:  # nearly every field of nearly every payload
            values[meaning] = value
            said[meaning] = name
            continue
        problems = Problems(allow_unknown=allow_unknown) if problems is None else problems
        if name not in fields:
            if not allow_unknown:
                problems.append(_unknown(name, value, fields))
        elif type(value) is not kind and not _is_kind(value, kind):
            problems.append(wrong(name, _KINDS[kind], value))
        else:
            if check is not None:
                check(value, name, problems)
            values[meaning] = value
            said[meaning] = name
    if problems:
        raise WireFormatError(
            "; ".join(problem.message for problem in problems),
            wire_format=wire_format,
            field=problems[0].field,
            violations=problems,
        )
    return values, said


def not_empty(value: str, path: str, problems: Problems) -> None:
    """Checks a URL: any text, but there must be one."""
    if not value:
        problems.append(wrong(path, "text that is not empty", value))


def number(value: Any, path: str, problems: Problems) -> None:
    """Checks a number, whole or not; its field's kind is object, because JSON has two types for it."""
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
            here = f"{path}[{place}]"
            if not _is_kind(value, kind):
                problems.append(wrong(here, _KINDS[kind], value))
            elif check is not None:
                check(value, here, problems)

    return check_all


def one_of(*values: str) -> Check:
    """Checks that text is one of some words."""

    def check(value: str, path: str, problems: Problems) -> None:
        if value not in values:
            problems.append(wrong(path, " or ".join(values), value))

    return check


def object_with(fields: Mapping[str, Field], *, required: Sequence[str] = ()) -> Check:
    """Checks an object inside the payload, whose unknown fields are treated like the payload's own."""

    def check(value: Mapping[str, Any], path: str, problems: Problems) -> None:
        for name in required:
            if value.get(name) is None:
                problems.append(wrong(f"{path}.{name}", "present", None))
        for name, inner in value.items():
            here = f"{path}.{name}"
            field = fields.get(name)
            if inner is None:
                continue
            if field is None:
                if not problems.allow_unknown:
                    problems.append(_unknown(name, inner, fields, path=here))
            elif not _is_kind(inner, field.kind):
                problems.append(wrong(here, _KINDS[field.kind], inner))
            elif field.check is not None:
                field.check(inner, here, problems)

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


def _unknown(name: Any, value: Any, fields: Mapping[str, Field], path: str | None = None) -> Violation:
    known = list(fields)
    close = get_close_matches(str(name).lower(), known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    field = str(name) if path is None else path
    return Violation(
        "unknown_field", field, reportable(value), known, f"unknown field {field!r}; {remedy}", _SOURCE
    )


def _is_kind(value: Any, kind: type) -> bool:
    if kind is list:
        return isinstance(value, list | tuple)
    if kind is dict:
        return isinstance(value, Mapping)
    if kind is Decimal:
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float | Decimal) and isfinite(value))
        )
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _got(value: Any) -> str:
    """A value of the wrong kind for a message: quoted if it is text, else plain; objects and lists by name."""
    if isinstance(value, str):
        return ascii(reportable(value))
    return shown(value) if isinstance(value, bool | int | float) else json_kind(value)
