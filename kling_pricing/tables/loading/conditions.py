"""The types of conditions, facts and URL paths in table files, for the pydantic models of those files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from kling_pricing.display import did_you_mean
from kling_pricing.strict_yaml import matching_text, written
from kling_pricing.tables.http_rules import CODE, MESSAGE, STATUS
from kling_pricing.tables.rules import Between, Condition, OneOf
from kling_pricing.wire.facts import FACT_TYPES

_KINDS = {str: "text", int: "a whole number", bool: "true or false", Decimal: "a number"}
_MEDIA_TYPES: Mapping[str, type] = {"size_bytes": int, "type": str, "length_s": Decimal}


def _condition(value: Any, kind: type) -> Condition:
    if isinstance(value, dict):
        return _range(value, kind)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("does not allow any value; list at least one")
    for item in values:
        if type(item) is not kind and not (kind is Decimal and type(item) is int):
            raise ValueError(f"must be {_KINDS[kind]}, got {written(item)}")
    return OneOf(tuple(values))


def _range(value: dict[str, Any], kind: type) -> Between:
    if kind not in (int, Decimal):
        raise ValueError(f"must be {_KINDS[kind]}, so a range is not possible; list the values")
    if not value or value.keys() - {"min", "max"}:
        raise ValueError(f"a range must have min, max or both, got {', '.join(value) or 'neither'}")
    for side, bound in value.items():
        if type(bound) not in (int, kind):
            raise ValueError(f"{side} must be {_KINDS[kind]}, got {written(bound)}")
    minimum, maximum = value.get("min"), value.get("max")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"min {minimum} is above max {maximum}; swap them")
    return Between(minimum, maximum)


def _conditions(vocabulary: Mapping[str, type]) -> Callable[[Any], dict[str, Condition]]:
    def validate(value: Any) -> dict[str, Condition]:
        if not isinstance(value, dict):
            example = f"{{{next(iter(vocabulary))}: ...}}"
            raise ValueError(f"must be a map such as {example}, got {written(value)}")  # noqa: TRY004
        conditions = {}
        for name, condition in value.items():
            if name not in vocabulary:
                raise ValueError(f"{name!r} is not a fact; {did_you_mean(name, list(vocabulary))}")
            try:
                conditions[name] = _condition(condition, vocabulary[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return conditions

    return validate


def _fact_values(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a map of facts such as {{audio: false}}, got {written(value)}")  # noqa: TRY004
    for fact, item in value.items():
        if fact not in FACT_TYPES:
            raise ValueError(f"{fact!r} is not a fact; {did_you_mean(fact, list(FACT_TYPES))}")
        if type(item) is not FACT_TYPES[fact]:
            raise ValueError(f"{fact} must be {_KINDS[FACT_TYPES[fact]]}, got {written(item)}")
    return value


def _error_shape(value: Any) -> dict[str, Any]:
    placeholders = {MESSAGE, CODE, STATUS}

    def texts(tree: Any, path: str) -> set[str]:
        if isinstance(tree, dict):
            return {text for name, part in tree.items() for text in texts(part, f"{path}.{name}")}
        place = path.removeprefix(".")
        if tree is not None and type(tree) not in (str, int, bool):
            raise ValueError(f"{place} must be a map, text, a whole number, true, false or null")
        if isinstance(tree, str) and "{" in tree and tree not in placeholders:
            allowed = ", ".join(sorted(placeholders))
            raise ValueError(f"{place}: {tree!r} is not a placeholder; use one of: {allowed}")
        return {tree} if isinstance(tree, str) else set()

    if not isinstance(value, dict) or MESSAGE not in texts(value, ""):
        raise ValueError(f"must be a map that contains {MESSAGE!r}")
    return value


def _conditions_schema(vocabulary: Mapping[str, type]) -> dict[str, Any]:
    value = {"type": ["string", "number", "boolean"]}
    bounds = {"min": {"type": "number"}, "max": {"type": "number"}}
    condition = {
        "description": "One value, a list of values, or a range that includes its ends.",
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


_TASK_PATH = r"(/[A-Za-z0-9._~-]+)+(/\{task_id\}(/[A-Za-z0-9._~-]+)*|\?[A-Za-z0-9_]+=\{task_id\})"

TaskPath: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(
            _TASK_PATH, "the path of a task's URL, such as /v1/videos/{task_id} or /tasks?task_ids={task_id}"
        )
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_TASK_PATH}$"}),
]
"""The path of a task's URL."""

_PAYLOAD_FIELD = r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*"

PayloadField: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(_PAYLOAD_FIELD, "the name of a field, or a path such as options.external_id")
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_PAYLOAD_FIELD}$"}),
]
"""A field of a payload, or the path to a field inside objects."""

_LOOKUP_PATH = _TASK_PATH.replace("task_id", "own_id")

LookupPath: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(_LOOKUP_PATH, "the path of a task's URL, such as /tasks?own_ids={own_id}")),
    WithJsonSchema({"type": "string", "pattern": f"^{_LOOKUP_PATH}$"}),
]
"""The path of a task's URL, with the caller's own id in it."""

_LISTED_PATH = r"(/([a-z0-9._~:-]+|\{[a-z_]+\}))+(/\*)?"

ListedPath: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(_LISTED_PATH, "a path in lower case, such as /v1/tasks/{task_id}/cancel or /v1/chat/*")
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_LISTED_PATH}$"}),
]
"""A pattern of paths."""

FactConditions: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_conditions(FACT_TYPES)), WithJsonSchema(_conditions_schema(FACT_TYPES))
]
"""Fact -> condition, for `kling_pricing.tables.rules.Conditions`."""

MediaConditions: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_conditions(_MEDIA_TYPES)), WithJsonSchema(_conditions_schema(_MEDIA_TYPES))
]
"""Attribute of `MediaFacts` -> condition."""

StatusCondition: TypeAlias = Annotated[
    Any,
    BeforeValidator(lambda value: _condition(value, int)),
    WithJsonSchema(_conditions_schema({"status": int})["properties"]["status"]),
]
"""A condition on an HTTP status, for `kling_pricing.tables.rules.Condition`."""

ErrorShape: TypeAlias = Annotated[
    dict[str, Any], BeforeValidator(_error_shape), WithJsonSchema({"type": "object", "minProperties": 1})
]
"""The shape of an API's errors, with the placeholders `{message}`, `{code}` and `{status}`."""

FactValues: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_fact_values)]
"""Fact -> a single value."""
