"""The fields of a payload: their JSON types, checks on their values, and the violations of these.

Types are strict: `"5"`, 5.0 and true are not whole numbers.
A field that is null counts as left out.
The checks are written by hand because every request pays for them.
They cost a fraction of a pydantic model, and their messages name the field as the payload spells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple, Self, TypeAlias

from kling_pricing.display import MAX_SHOWN_CHARS, joined_with_or, json_kind, nearest, reportable, shown
from kling_pricing.findings import Violation
from kling_pricing.wire.meanings import leaf_fields, meanings, related

_MAX_NAMED = 100
"""The number of violations after which no further unknown field is reported."""


class Violations(list[Violation]):
    """The violations of a payload so far.

    Attributes:
        allow_unknown: whether unknown fields are ignored instead of reported.
    """

    allow_unknown = False

    @property
    def names_unknown(self) -> bool:
        """Whether a further unknown field is reported; each report takes a millisecond."""
        return not self.allow_unknown and len(self) < _MAX_NAMED


Check: TypeAlias = Callable[[Any, str, Violations], None]
"""Takes a value, its path in the payload, and the violations, to which it adds those of the value."""

_KIND_NAMES = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_SOURCE = "the API's parameter list"
_FOREIGN_CUTOFF_PERCENT = 88
"""How alike an unknown name and a name of another API must be, so that `start_time` is not `start_image`."""


class Field(NamedTuple):
    """One field of a payload.

    Attributes:
        name: the input that the field gives, in words that do not depend on the API.
        kind: its JSON type: str, int, bool, list or dict; object if `check` tests the type.
        check: tests the value further.
        read: converts a valid value to the input's value: `pro` -> `1080p`.
        inside: the fields of the object in this field, if they are inputs themselves.
        stated: the fact that the payload gives this field; empty if no rule tests that.
        published: whether the API lists the field; a field that it does not list is never advised.
    """

    name: str
    kind: type
    check: Check | None = None
    read: Callable[[Any], Any] | None = None
    inside: Mapping[str, Field] = {}
    stated: str = ""
    published: bool = True


def not_empty(value: str, path: str, violations: Violations) -> None:
    """Checks that text is not empty, such as a URL."""
    if not value:
        violations.append(wrong_value(path, "non-empty text", value))


def not_a_data_uri(value: str, path: str, violations: Violations) -> None:
    """Checks that text is a URL or Base64 text; the APIs refuse Base64 with a `data:` prefix."""
    not_empty(value, path, violations)
    if value[:5].lower() == "data:":
        expected = "a URL, or Base64 text without a data: prefix"
        violations.append(wrong_value(path, expected, f"{value[:32]}..."))


def number(value: Any, path: str, violations: Violations) -> None:
    """Checks that a value is a finite number, whole or not.

    The kind of its field is object, because Python reads JSON's numbers as several types.
    """
    if type(value) is int or (type(value) is float and isfinite(value)):
        return
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or not decimal(value).is_finite():
        violations.append(wrong_value(path, "a number", value))


def decimal(value: Any) -> Decimal:
    """Returns a number of a payload as its JSON writes it: 0.1 is exactly one tenth."""
    return Decimal(str(value)) if isinstance(value, float) else Decimal(value)


def list_of(kind: type, check: Check | None = None) -> Check:
    """Returns a check of a list's elements: of their JSON type, and by another check."""

    def check_list(values: Sequence[Any], path: str, violations: Violations) -> None:
        for index, value in enumerate(values):
            if not is_kind(value, kind):
                violations.append(wrong_kind(f"{path}[{index}]", kind, value))
            elif check is not None:
                check(value, f"{path}[{index}]", violations)

    return check_list


class AllowedWords(tuple[str, ...]):
    """Checks that text is one of some words."""

    __slots__ = ()

    def __new__(cls, *words: str) -> Self:
        """Takes the allowed words."""
        return super().__new__(cls, words)

    def __call__(self, value: str, path: str, violations: Violations) -> None:
        """Adds a violation if the value is another word."""
        if value not in self:
            violations.append(wrong_value(path, joined_with_or(self), value))


def object_with(
    fields: Mapping[str, Field], *, required: Sequence[str] = (), empty_is_absent: bool = False
) -> Check:
    """Returns a check of an object; its unknown fields are treated like those at the top level.

    Args:
        fields: the fields of the object.
        required: the fields that it must have.
        empty_is_absent: whether empty text counts as a field that is left out.
    """

    def check_object(value: Mapping[str, Any], path: str, violations: Violations) -> None:
        for name in required:
            if value.get(name) is None or (empty_is_absent and value[name] == ""):
                violations.append(missing(f"{path}.{name}"))
        for name, inner in value.items():
            if inner is None or (empty_is_absent and inner == ""):
                continue
            field = fields.get(name)
            if field is None:
                if violations.names_unknown:
                    violations.append(unknown_field(name, inner, fields, path=f"{path}.{name}"))
            elif not is_kind(inner, field.kind):
                violations.append(wrong_kind(f"{path}.{name}", field.kind, inner))
            elif field.check is not None:
                field.check(inner, f"{path}.{name}", violations)

    return check_object


REFERENCE_VIDEOS = list_of(
    dict,
    object_with(
        {
            "video_url": Field("video_url", str, not_empty),
            "refer_type": Field("refer_type", str, AllowedWords("base", "feature")),
            "keep_original_sound": Field("keep_original_sound", str, AllowedWords("yes", "no")),
        },
        required=["video_url"],
    ),
)
"""Checks a `video_list`, which two APIs take in the same shape."""


def folded(text: str) -> str:
    """Returns ASCII text in lower case and other text as it is: `4K` is 4k, but a Kelvin sign is not a K."""
    return text.lower() if text.isascii() else text


def wrong_value(path: str, expected: str, value: Any) -> Violation:
    """Returns the violation of a value that the API does not accept in this field."""
    message = f"{path} must be {expected}, got {_quoted(value)}"
    return Violation("wrong_type", path, reportable(value), expected, message, _SOURCE)


def wrong_kind(path: str, kind: type, value: Any) -> Violation:
    """Returns the violation of a value whose JSON type is not the field's."""
    return wrong_value(path, _KIND_NAMES[kind], value)


def missing(path: str) -> Violation:
    """Returns the violation of a required field that is left out."""
    return Violation("wrong_type", path, None, "present", f"{path} is required; add it", _SOURCE)


def unknown_field(name: Any, value: Any, fields: Mapping[str, Field], path: str | None = None) -> Violation:
    """Returns the violation of a field that the API does not list.

    Args:
        name: the field's name.
        value: its value.
        fields: the fields that the API lists there.
        path: the field's path; None at the top level.
    """
    field = str(name) if path is None else path
    group, leaf = _group_and_leaf(str(name))
    siblings = {
        sibling_leaf: known
        for known, listed in fields.items()
        if listed.published
        for sibling_group, sibling_leaf in [_group_and_leaf(known)]
        if sibling_group == group
    }
    inputs = tuple([(leaf, fields[known].name) for leaf, known in siblings.items()])
    close = _field_meant(leaf[:MAX_SHOWN_CHARS], inputs)
    known = list(siblings.values())
    if close is None:  # it may belong inside an object
        inside = {path[-1]: (".".join(path), inner) for path, inner in leaf_fields(fields) if len(path) > 1}
        inputs = tuple([(name, inner.name) for name, (_, inner) in inside.items() if inner.published])
        close = _field_meant(leaf[:MAX_SHOWN_CHARS], inputs)
        siblings = {leaf: path for leaf, (path, _) in inside.items()}
    advice = f"use one of: {', '.join(known)}" if close is None else f"did you mean {siblings[close]!r}?"
    return Violation(
        "unknown_field", field, reportable(value), known, f"unknown field {field!r}; {advice}", _SOURCE
    )


@lru_cache(maxsize=1024)  # a program that writes a wrong name usually writes it in every request
def _field_meant(word: str, inputs: tuple[tuple[str, str], ...]) -> str | None:
    """Returns the field that an unknown name most likely stands for; None if no field is likely.

    A name that another API documents stands for the same input here, never for a field that only looks alike.

    Args:
        word: the unknown name, or the start of a long one.
        inputs: each field that the API lists in this place, with the input that it gives.
    """
    documented = meanings()
    fields = [name for name, _ in inputs]
    close = nearest(word, [*fields, *documented])
    if close is None or close in fields:
        return close
    if nearest(word, [close], cutoff_percent=_FOREIGN_CUTOFF_PERCENT) is None:
        return None
    inputs_meant = documented[close]
    for meant in (inputs_meant, related(inputs_meant)):
        same = [name for name, given in inputs if given in meant]
        if same:
            return nearest(word, same) or same[0]
    return None


def _group_and_leaf(name: str) -> tuple[str, str]:
    """Splits a flat name, such as `metadata.seconds` or `metadata[seconds]`, into group and own name."""
    group, separator, leaf = name.removesuffix("]").replace("[", ".").rpartition(".")
    return group.replace("]", "") + separator, leaf


def is_kind(value: Any, kind: type) -> bool:
    """Returns whether a value has a field's JSON type: true is not a whole number, and a tuple is a list."""
    if type(value) is kind:  # true for nearly every value, and much faster than isinstance
        return True
    if kind is list:
        return isinstance(value, list | tuple)
    if kind is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _quoted(value: Any) -> str:
    """Returns a value for a message: text in quotes, numbers and booleans as they are, the rest by its kind."""
    if isinstance(value, str):
        return ascii(reportable(value))
    return shown(value) if isinstance(value, bool | int | float) else json_kind(value)
