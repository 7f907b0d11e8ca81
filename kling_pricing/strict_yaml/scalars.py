"""The types of single values in the project's YAML files, for the files' pydantic models."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from kling_pricing.display import MAX_SHOWN_CHARS, shown
from kling_pricing.money import price_from_text

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 2000, 2200


def written(value: Any) -> str:
    """Formats a value for a message as in a file, with text in quotes."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN_CHARS else f"{value[:MAX_SHOWN_CHARS]}...")
    return "nothing" if value is None else shown(value)


def _price(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return price_from_text(format(value, "f"))
    if isinstance(value, str) or type(value) is int:
        return price_from_text(str(value))
    if isinstance(value, float):
        raise ValueError(f"must be exact, but {value!r} is a float; write it as text or as a Decimal")  # noqa: TRY004
    raise ValueError(f"must be an amount such as 0.0714, got {written(value)}")


def _instant(value: Any) -> datetime:
    problem = (
        "must be a day such as 2026-04-29, or a time with a time zone such as 2026-04-29T08:00:00Z, "
        f"in the years {_FIRST_YEAR} to {_LAST_YEAR}, got {written(value)}"
    )
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
    raise ValueError(f"must be a day such as 2026-04-29, got {written(value)}")


def matching_text(pattern: str, description: str) -> Callable[[Any], str]:
    """Returns a validator for text that matches a pattern; its error contains the description."""
    compiled = re.compile(pattern)

    def validate(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {description}, got {written(value)}")
        return value

    return validate


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
"""Text that is not empty."""

Name: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(
            r"[a-z0-9][a-z0-9._-]*",
            "made of lower-case letters, digits, dots, underscores and hyphens, such as 720p",
        )
    ),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]*$"}),
]

Code: TypeAlias = Annotated[
    str,
    BeforeValidator(
        matching_text(r"[a-z][a-z0-9_]*", "made of lower-case letters, digits and underscores, such as silent")
    ),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}),
]

UrlPath: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(r"(/[A-Za-z0-9._~-]+)+", "the path of a URL, such as /v1/videos")),
    WithJsonSchema({"type": "string", "pattern": "^(/[A-Za-z0-9._~-]+)+$"}),
]

Currency: TypeAlias = Annotated[
    str,
    BeforeValidator(matching_text(r"[A-Z]{3}", "an ISO 4217 code of three capital letters, such as USD")),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"}),
]

Price: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_price),
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "minimum": 0,
            "description": "An exact amount with at most 9 decimal places, with or without quotation marks.",
        }
    ),
]

Instant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema(
        {
            "type": "string",
            "description": "A day such as 2026-04-29, which means midnight UTC, or a time with a time zone.",
        }
    ),
]

Day: TypeAlias = Annotated[
    date,
    BeforeValidator(lambda value: value if type(value) is date else _day(value)),
    WithJsonSchema({"type": "string", "description": "A day such as 2026-04-29."}),
]
