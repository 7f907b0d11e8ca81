"""Forms: multipart/form-data bodies (RFC 7578), and nested payloads written as flat fields.

A body is rewritten without changing any other byte.
In a flat form, the keys give the nesting: `metadata[output_config][duration]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kling_pricing.errors import WireFormatError

if TYPE_CHECKING:
    from email.message import Message

_UNENCODED = {"", "7bit", "8bit", "binary"}
_SPACE = b" \t"
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY_PART = re.compile(r"\[([^\[\]]*)\]")


class _FormPart(NamedTuple):
    """One part of a form: its bytes between two boundaries, and its name, file name and content."""

    raw: bytes
    name: str
    file_name: str | None
    content: bytes


class _Form(NamedTuple):
    """A parsed body; joining its parts gives the same bytes."""

    boundary: bytes
    preamble: bytes
    parts: list[_FormPart]
    ending: bytes

    def join(self, raw_parts: list[bytes]) -> bytes:
        """Returns a body with these parts."""
        delimiter = b"\r\n--" + self.boundary
        body = delimiter.join([self.preamble, *raw_parts, self.ending])
        return body.removeprefix(b"\r\n")  # the first boundary needs no line break before it


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """Returns the fields of a multipart/form-data body: name -> text, or file name of a file.

    Args:
        body: the body of the HTTP request.
        content_type: the value of its Content-Type header, which names the boundary.

    Raises:
        WireFormatError: the body is not such a form, a field is given twice, or a text is not UTF-8.
    """
    fields: dict[str, str] = {}
    for part in _parse(body, content_type).parts:
        if part.name in fields:
            raise WireFormatError(
                f"{part.name!r} is given twice; keep one of them, or send JSON", field=part.name
            )
        fields[part.name] = _text(part) if part.file_name is None else part.file_name
    return fields


def form_files(body: bytes, content_type: str) -> frozenset[str]:
    """Returns the names of the fields that are sent as files.

    Raises:
        WireFormatError: the body is not a multipart/form-data body.
    """
    return frozenset([part.name for part in _parse(body, content_type).parts if part.file_name is not None])


def amended_form(body: bytes, content_type: str, changes: Mapping[str, str]) -> bytes:
    """Returns the form with other texts; new fields come last, and every other byte stays the same.

    Raises:
        WireFormatError: the body is not a multipart/form-data body.
    """
    form = _parse(body, content_type)
    raw_parts = [
        _raw(part.name, changes[part.name]) if part.name in changes else part.raw for part in form.parts
    ]
    names = {part.name for part in form.parts}
    raw_parts += [_raw(name, text) for name, text in changes.items() if name not in names]
    return form.join(raw_parts)


def _parse(body: bytes, content_type: str) -> _Form:
    header = _headers(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n")
    boundary = (header.get_boundary() or "").encode("latin-1", "replace")
    if header.get_content_type() != "multipart/form-data" or not boundary:
        raise WireFormatError(
            f"not a multipart/form-data body: its Content-Type is {content_type!r}; "
            "send multipart/form-data with a boundary"
        )
    preamble, *sections = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not sections or not sections[-1].startswith(b"--"):
        raise WireFormatError(
            "not a multipart/form-data body: its closing boundary is missing; send the whole body"
        )
    *raw_parts, ending = sections
    return _Form(boundary, preamble, [_part(raw) for raw in raw_parts], ending)


def _part(raw: bytes) -> _FormPart:
    line = raw.lstrip(_SPACE)
    head, blank, content = line.partition(b"\r\n\r\n")
    if not line.startswith(b"\r\n") or not blank:
        raise WireFormatError(
            "not a multipart/form-data body: one of its parts has no headers; add Content-Disposition"
        )
    message = _headers(head.removeprefix(b"\r\n") + b"\r\n\r\n")
    name = message.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise WireFormatError("a part of the form has no name; add it to the part's Content-Disposition")
    if str(message.get("content-transfer-encoding", "")).lower() not in _UNENCODED:
        raise WireFormatError(
            f"{name!r} has a Content-Transfer-Encoding; send the value without it", field=name
        )
    return _FormPart(raw, name, message.get_filename(), content)


def _headers(head: bytes) -> Message:
    from email.parser import BytesHeaderParser  # noqa: PLC0415 (slow to import, and only forms have parts)
    from email.policy import HTTP  # noqa: PLC0415

    return BytesHeaderParser(policy=HTTP).parsebytes(head)


def _text(part: _FormPart) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise WireFormatError(f"{part.name!r} is not UTF-8 text; send it as UTF-8", field=part.name) from None


def _raw(name: str, text: str) -> bytes:
    return f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()


def form_key(path: Sequence[str]) -> str:
    """Returns the key of a nested field: `metadata[output_config][duration]`."""
    return path[0] + "".join(f"[{part}]" for part in path[1:])


def is_nested_form(payload: Mapping[str, Any]) -> bool:
    """Returns whether a payload is a flat mapping of text with at least one key for a nested field."""
    bracketed = False
    entries: Iterable[tuple[Any, Any]] = payload.items()
    for key, value in entries:
        if not (isinstance(key, str) and isinstance(value, str)):
            return False
        bracketed = bracketed or "[" in key
    return bracketed


def nested_payload(form: Mapping[str, str], wire_format: str) -> dict[str, Any]:
    """Returns the nested payload that a flat form stands for.

    Raises:
        WireFormatError: a field is given twice, or is both text and an object.
    """
    payload: dict[str, Any] = {}
    for key, value in form.items():
        match = _KEY.fullmatch(key)
        *parents, name = (match[1], *_KEY_PART.findall(match[2])) if match else (key,)
        node: Any = payload
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name in node:
            raise WireFormatError(
                f"{key!r} is given twice; keep one of them", wire_format=wire_format, field=key
            )
        node[name] = value
    return payload
