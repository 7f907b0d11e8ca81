"""Requests, responses, and the error that makes an API refuse a request."""

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
        method: the HTTP method, in upper case.
        path: the path without the provider's prefix and without a final slash, such as `/v1/tasks`.
        query: name -> value of each query parameter.
        headers: name in lower case -> value.
        body: the body, as sent.
        base: the URL of the provider in this sandbox, for the links in responses.
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
        body: bytes, a string, or a value to send as JSON, in which a `Decimal` becomes an exact number.
        headers: additional headers; `content-type` is `application/json` unless it is given here.
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
    """An API refuses a request.

    Attributes:
        cause: the cause, under the same name for all APIs, such as `invalid`, `unpriced` or `no_balance`.
        status: the HTTP status of the response; None: the status that the API uses for this cause.
        code: the error code in the response; None: the code that the API uses for this cause.
    """

    def __init__(self, cause: str, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status
        self.code = code


def to_json(value: Any) -> str:
    """Returns a value as JSON; a `Decimal` becomes a number with exactly the same digits."""
    return _EXACT.sub(r"\1", json.dumps(value, default=_exact, ensure_ascii=False, separators=(",", ":")))


def _exact(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"\0{format_decimal(value)}"
    raise TypeError(f"JSON cannot write {type(value).__name__}")
