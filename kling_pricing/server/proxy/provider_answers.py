"""The responses that the proxy gives: those of the provider, and its own in the provider's error shape."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import aiohttp

from kling_pricing.hooks.error_responses import REFUSED_BY
from kling_pricing.hooks.http_messages import ErrorResponse, ProviderResponse
from kling_pricing.server.proxy.caller_words import for_callers
from kling_pricing.server.proxy.header_rules import ISOLATION, returned_headers, returned_status, safe_value
from kling_pricing.tables.http_rules import HttpRules

_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_READ_BYTES = 64 * 1024


class Answer(NamedTuple):
    """A whole response for the caller.

    Attributes:
        status: the HTTP status.
        headers: the headers.
        body: the body.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def with_headers(self, further: Mapping[str, str]) -> Answer:
        """Returns the response with further headers."""
        return self._replace(headers=[*self.headers, *further.items()])


class AnswerTooLargeError(Exception):
    """A response is larger than the server reads."""


def error_answer(
    status: int, code: str, message: str, rules: HttpRules, *, refused_by: str = "", retry: bool = False
) -> Answer:
    """Returns an error of the server in the shape of the API's own errors.

    Args:
        status: the HTTP status.
        code: the error's code.
        message: the message.
        rules: the API's rules, with the shape.
        refused_by: the name of the error; empty: the response looks like the provider's own.
        retry: whether SDKs may send the request again by themselves.
    """
    headers = [("content-type", "application/json"), *ISOLATION]
    if refused_by:
        headers.append((REFUSED_BY, refused_by))
    if not retry:
        headers.append(("x-should-retry", "false"))
    body = json.dumps(rules.error_body(status, code, message), ensure_ascii=False)
    return Answer(status, headers, body.encode())


def hook_answer(response: ErrorResponse) -> Answer:
    """Returns a refusal of the hook as a response for the caller."""
    headers = [(name.lower(), safe_value(value)) for name, value in response.headers.items()]
    return Answer(response.status, [*headers, *ISOLATION], for_callers(response.body))


class ReadResponse(NamedTuple):
    """A response of the provider, read whole.

    Attributes:
        answer: the response for the caller.
        plain: the response as hooks read it, decompressed.
    """

    answer: Answer
    plain: ProviderResponse


async def read_whole(response: aiohttp.ClientResponse, limit_bytes: int) -> ReadResponse:
    """Reads a response.

    Raises:
        AnswerTooLargeError: it is larger than the limit, compressed or not.
        aiohttp.ClientError: the connection broke.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(_READ_BYTES):
        size += len(part)
        if size > limit_bytes:
            raise AnswerTooLargeError
        parts.append(part)
    raw = b"".join(parts)
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = _decompressed(raw, headers.get("content-encoding", ""), limit_bytes)
    answer = Answer(returned_status(response.status), list(returned_headers(response.raw_headers)), raw)
    return ReadResponse(answer, ProviderResponse(response.status, headers, body))


def _decompressed(raw: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Returns a body without its compression; an unknown or wrong compression gives an unreadable body.

    Raises:
        AnswerTooLargeError: it is larger than the limit.
    """
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return raw
    decompressor = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        body = decompressor.decompress(raw, limit_bytes)
    except zlib.error:
        return b""
    if decompressor.unconsumed_tail:
        raise AnswerTooLargeError
    return body
