"""The types of the fields in the API: amounts are text, and instants have a time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Query
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard.payload_documents import read_instant
from kling_pricing.ledger.paging import MAX_PAGE
from kling_pricing.money import MAX_DECIMALS, MAX_WHOLE_DIGITS, format_decimal, ledger_amount
from kling_pricing.strict_yaml import FileModel
from kling_pricing.windows import FOREVER

_Value = TypeVar("_Value")


def _checked(read: Callable[[Any], _Value]) -> Callable[[Any], _Value]:
    """Returns a validator that raises the errors that pydantic expects."""

    def validate(value: Any) -> _Value:
        try:
            return read(value)
        except KlingPricingError as error:
            raise ValueError(str(error)) from None

    return validate


def _amount(value: Any) -> Decimal:
    if type(value) not in {str, int}:
        raise KlingPricingError(
            f"must be text such as '0.714', so that no program rounds it, got {shown(value)}"
        )
    return ledger_amount(value)


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):  # from the ledger, because JSON has no instants
        return value
    return read_instant(value)


_AMOUNT_SCHEMA = {
    "type": "string",
    "pattern": rf"^(0|[1-9][0-9]{{0,{MAX_WHOLE_DIGITS - 1}}})(\.[0-9]{{1,{MAX_DECIMALS}}})?$",
    "examples": ["0.714"],
}
_NUMBER_SCHEMA = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["0.714"]}

Amount: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_checked(_amount)),
    PlainSerializer(format_decimal, return_type=str),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
"""An amount that a caller gives: text in plain decimal notation, or a whole number."""

Number: TypeAlias = Annotated[
    Decimal, PlainSerializer(format_decimal, return_type=str), WithJsonSchema(_NUMBER_SCHEMA)
]
"""An exact number in an answer, as text in plain decimal notation; it may be negative."""

Instant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-01T00:00:00Z"]}),
]
"""An instant with a time zone; in UTC once it is read."""

ShortText: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL_CHARS)]
"""A name, a reason or a label."""

Limit: TypeAlias = Annotated[
    int, Query(ge=1, le=MAX_PAGE, description="The largest number of items on the page.")
]
Cursor: TypeAlias = Annotated[
    ShortText | None, Query(description="The `next` of the previous page; leave it out for the first page.")
]

NumberCursor: TypeAlias = Annotated[
    int, Query(ge=0, le=2**62, description="The `next` of the previous page; 0 for the first page.")
]
"""The number of the last item of the previous page."""

DEFAULT_LIMIT = 100
"""The number of items on a page if the caller does not give one."""


class ApiBody(FileModel):
    """The base class for the bodies of requests: strictly typed, and without unknown fields."""


class View(BaseModel):
    """The base class for answers. A view has the attributes of the object that it shows."""

    model_config = ConfigDict(from_attributes=True)


def bound(at: datetime | None) -> datetime | None:
    """Returns the start or the end of a window; None: the window has none."""
    return None if at in {None, *FOREVER} else at


NextCursor: TypeAlias = Annotated[
    str | None, Field(description="The cursor of the next page; null if this is the last page.")
]
