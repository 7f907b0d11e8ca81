"""Reads the bodies of requests: JSON, and the multipart forms that some clients send."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from email.parser import BytesParser
from typing import Any, NoReturn, cast

from kling_pricing.sandbox.reading import invalid

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])+)")


def json_object(body: bytes) -> dict[str, Any]:
    """Returns a body as an object; an empty body is an empty object.

    Raises:
        DeclinedError: the body is not a JSON object.
    """
    try:
        value = json.loads(body or b"{}", parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        invalid("the body is not JSON")
    if not isinstance(value, dict):
        invalid("the body is not a JSON object")
    return cast("dict[str, Any]", value)


def _refuse_constant(name: str) -> NoReturn:
    invalid(f"{name} is not valid JSON")


def payload_of(body: bytes, headers: Mapping[str, str], *, forms: bool) -> dict[str, Any]:
    """Returns the payload of a submission.

    Args:
        body: the body.
        headers: the headers of the request, with names in lower case.
        forms: whether the API accepts multipart forms.

    Raises:
        DeclinedError: the body cannot be read.
    """
    content_type = headers.get("content-type", "")
    if not forms or not content_type.startswith("multipart/form-data"):
        return json_object(body)
    form = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    payload: dict[str, Any] = {}
    for part in form.get_payload() if form.is_multipart() else ():
        name = str(part.get_param("name", header="content-disposition"))  # type: ignore[union-attr]
        content = cast("bytes", part.get_payload(decode=True))  # type: ignore[union-attr]
        value = part.get_filename() or content.decode(errors="replace")  # type: ignore[union-attr]
        _place(payload, name, value)
    return payload


def _place(payload: dict[str, Any], name: str, value: str) -> None:
    """Adds the value of a form field at its place in the payload."""
    match = _KEY.fullmatch(name)
    path = [match[1], *re.findall(r"\[([^\[\]]+)\]", match[2])] if match else [name]
    node = payload
    for step in path[:-1]:
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            invalid(f"the field {name} is given twice")
    node[path[-1]] = value
