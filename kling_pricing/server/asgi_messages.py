"""Requests and responses of the server as ASGI messages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BAD_REQUEST = 400


async def send_response(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    """Sends a whole response with its length."""
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def send_json(
    send: Send, status: int, document: Mapping[str, Any], headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Sends a JSON document."""
    body = json.dumps(document, ensure_ascii=False).encode()
    await send_response(send, status, [("content-type", "application/json"), *headers], body)


async def refuse_framing(scope: Scope, send: Send) -> bool:
    """Refuses a request whose body two servers could read in different ways; returns whether it did.

    With two lengths, such requests smuggle a second request past the first server; with two content types, a
    body that was not priced.
    """
    names = [name for name, _ in scope["headers"]]
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        message = "the request states its length twice; send either Content-Length or Transfer-Encoding, once"
    elif names.count(b"content-type") > 1:
        message = "the request has two Content-Type headers; send one"
    else:
        return False
    error = {"message": message, "code": "framing"}
    await send_json(send, _BAD_REQUEST, {"error": error}, [("connection", "close")])
    return True


def headers_of(scope: Scope) -> dict[str, str]:
    """Returns name in lower case -> value; the values of a repeated header are joined with commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
