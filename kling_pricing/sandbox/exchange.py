"""Calls, replies, and the reasons for which an API declines a call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import format_decimal

JSON = "application/json"

_EXACT = re.compile(r'"\\u0000([0-9.-]+)"')


class Call(NamedTuple):
    """A request to one provider.

    Attributes:
        method: the HTTP method, in capitals.
        path: the path below the provider's prefix, such as `/v1/tasks`, without a final slash.
        query: name -> value, of the query.
        headers: name in lower case -> value.
        body: the body, as sent.
        base: the URL of the provider in this sandbox, for the links in replies.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base: str = ""


class Reply(NamedTuple):
    """A response.

    Attributes:
        status: the HTTP status.
        body: the body: bytes, text, or anything that JSON can write; a `Decimal` becomes an exact number.
        headers: further headers; `content-type` is JSON unless given here.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = {}

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else to_json(self.body).encode()


class DeclinedError(Exception):
    """An API declines a call.

    Attributes:
        cause: the cause in words that do not depend on the API: `invalid`, `unpriced`, `no_balance`, ...
        status: the HTTP status that is asked for; None: the API's own for this cause.
        code: the API's code that is asked for; None: its own for this cause.
    """

    def __init__(self, cause: str, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status
        self.code = code


def to_json(value: Any) -> str:
    """Writes JSON; a `Decimal` becomes a number with exactly its digits."""
    return _EXACT.sub(r"\1", json.dumps(value, default=_exact, ensure_ascii=False, separators=(",", ":")))


def _exact(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"\0{format_decimal(value)}"
    raise TypeError(f"JSON cannot write {type(value).__name__}")
