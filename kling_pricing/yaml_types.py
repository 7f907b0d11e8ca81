"""The kinds of values that stand in the project's YAML files, for pydantic models of those files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from kling_pricing.findings import shown
from kling_pricing.http_rules import CODE, MESSAGE, STATUS
from kling_pricing.money import price_from_text
from kling_pricing.request import FACT_TYPES
from kling_pricing.rules import Between, Condition, OneOf
from kling_pricing.strict_yaml import did_you_mean

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 2000, 2200
_KINDS = {str: "text", int: "a whole number", bool: "true or false", Decimal: "a number"}
_MEDIA_TYPES: Mapping[str, type] = {"size_bytes": int, "type": str, "length_s": Decimal}


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


def _condition(value: Any, kind: type) -> Condition:
    if isinstance(value, dict):
        return _range(value, kind)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("allows nothing; list at least one value")
    for item in values:
        if type(item) is not kind and not (kind is Decimal and type(item) is int):
            raise ValueError(f"must be {_KINDS[kind]}, got {item!r}")
    return OneOf(tuple(values))


def _range(value: dict[str, Any], kind: type) -> Between:
    if kind not in (int, Decimal):
        raise ValueError(f"is {_KINDS[kind]} and has no range; list its values")
    if not value or value.keys() - {"min", "max"}:
        raise ValueError(f"a range has min, max or both and nothing else, got {', '.join(value) or 'neither'}")
    for side, bound in value.items():
        if type(bound) not in (int, kind):
            raise ValueError(f"{side} must be {_KINDS[kind]}, got {bound!r}")
    minimum, maximum = value.get("min"), value.get("max")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"min {minimum} is above max {maximum}; nothing could meet it")
    return Between(minimum, maximum)


def _conditions(vocabulary: Mapping[str, type]) -> Callable[[Any], dict[str, Condition]]:
    def read(value: Any) -> dict[str, Condition]:
        if not isinstance(value, dict):
            raise ValueError(f"must be a map such as {{{next(iter(vocabulary))}: ...}}, got {value!r}")  # noqa: TRY004
        read = {}
        for name, condition in value.items():
            if name not in vocabulary:
                raise ValueError(f"{name!r} is not a fact; {did_you_mean(name, list(vocabulary))}")
            try:
                read[name] = _condition(condition, vocabulary[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return read

    return read


def _fact_values(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a map of facts such as {{audio: false}}, got {value!r}")  # noqa: TRY004
    for fact, item in value.items():
        if fact not in FACT_TYPES:
            raise ValueError(f"{fact!r} is not a fact; {did_you_mean(fact, list(FACT_TYPES))}")
        if type(item) is not FACT_TYPES[fact]:
            raise ValueError(f"{fact} must be {_KINDS[FACT_TYPES[fact]]}, got {item!r}")
    return value


def _error_shape(value: Any) -> dict[str, Any]:
    words = {MESSAGE, CODE, STATUS}

    def said(tree: Any, path: str) -> set[str]:
        if isinstance(tree, dict):
            return {word for name, each in tree.items() for word in said(each, f"{path}.{name}")}
        if tree is not None and type(tree) not in (str, int, bool):
            raise ValueError(f"{path.removeprefix('.')} must be a map, text, a whole number or null")
        if isinstance(tree, str) and "{" in tree and tree not in words:
            raise ValueError(f"{path.removeprefix('.')}: {tree!r} is none of {', '.join(sorted(words))}")
        return {tree} if isinstance(tree, str) else set()

    if not isinstance(value, dict) or MESSAGE not in said(value, ""):
        raise ValueError(f"must be a map with {MESSAGE!r} somewhere in it")
    return value


def _matching(pattern: str, words: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {words}, got {shown(value)}")
        return value

    return read


def _conditions_schema(vocabulary: Mapping[str, type]) -> dict[str, Any]:
    value = {"type": ["string", "number", "boolean"]}
    bounds = {"min": {"type": "number"}, "max": {"type": "number"}}
    condition = {
        "description": "One value, a list of values, or a closed range.",
        "anyOf": [
            value,
            {"type": "array", "items": value, "minItems": 1},
            {"type": "object", "properties": bounds, "additionalProperties": False, "minProperties": 1},
        ],
    }
    return {
        "type": "object",
        "properties": dict.fromkeys(vocabulary, condition),
        "additionalProperties": False,
    }


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
Name: TypeAlias = Annotated[
    str,
    BeforeValidator(
        _matching(r"[a-z0-9][a-z0-9._-]*", "small letters, digits, points and hyphens, such as 720p")
    ),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]*$"}),
]
Code: TypeAlias = Annotated[
    str,
    BeforeValidator(_matching(r"[a-z][a-z0-9_]*", "small letters, digits and underscores, such as silent")),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}),
]
UrlPath: TypeAlias = Annotated[
    str,
    BeforeValidator(_matching(r"(/[A-Za-z0-9._~-]+)+", "the path of a URL, such as /v1/videos")),
    WithJsonSchema({"type": "string", "pattern": "^(/[A-Za-z0-9._~-]+)+$"}),
]
TaskPath: TypeAlias = Annotated[
    str,
    BeforeValidator(
        _matching(
            r"(/[A-Za-z0-9._~-]+)+/\{task_id\}(/[A-Za-z0-9._~-]+)*",
            "the path of a task's URL, such as /v1/videos/{task_id}",
        )
    ),
    WithJsonSchema({"type": "string", "pattern": r"^(/[A-Za-z0-9._~-]+)+/\{task_id\}(/[A-Za-z0-9._~-]+)*$"}),
]
Currency: TypeAlias = Annotated[
    str,
    BeforeValidator(_matching(r"[A-Z]{3}", "three capital letters, as ISO 4217 has them, such as USD")),
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
FactConditions: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_conditions(FACT_TYPES)), WithJsonSchema(_conditions_schema(FACT_TYPES))
]
"""Fact -> condition, as `kling_pricing.rules.Conditions`."""

MediaConditions: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_conditions(_MEDIA_TYPES)), WithJsonSchema(_conditions_schema(_MEDIA_TYPES))
]
"""Attribute of `MediaFacts` -> condition."""

StatusCondition: TypeAlias = Annotated[
    Any,
    BeforeValidator(lambda value: _condition(value, int)),
    WithJsonSchema(_conditions_schema({"status": int})["properties"]["status"]),
]
"""Condition of an HTTP status, as `kling_pricing.rules.Condition`."""

ErrorShape: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_error_shape), WithJsonSchema({"type": "object", "minProperties": 1})
]
"""The body of an API's errors, with `{message}`, `{code}` and `{status}` where they stand."""

FactValues: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_fact_values)]
"""Fact -> one value."""
