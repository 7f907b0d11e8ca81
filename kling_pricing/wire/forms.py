"""Forms: multipart/form-data bodies of requests, read field by field and rewritten byte for byte (RFC 7578)."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import HTTP
from typing import NamedTuple

from kling_pricing.errors import WireFormatError

_PLAIN = {"", "7bit", "8bit", "binary"}
_SPACE = b" \t"


class _FormPart(NamedTuple):
    """One part: what stands between two boundaries, and what it says."""

    raw: bytes
    name: str
    file_name: str | None
    content: bytes


class _Form(NamedTuple):
    """A body taken apart; put together again it is what it was."""

    boundary: bytes
    preamble: bytes
    parts: list[_FormPart]
    ending: bytes

    def together(self, raw_parts: list[bytes]) -> bytes:
        delimiter = b"\r\n--" + self.boundary
        body = delimiter.join([self.preamble, *raw_parts, self.ending])
        return body.removeprefix(b"\r\n")  # the first boundary need not stand on a line of its own


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a multipart/form-data body, as a wire format reads them; of a file, its name.

    Args:
        body: the body of the HTTP request.
        content_type: the value of its Content-Type header, which names the boundary.

    Raises:
        WireFormatError: it is not such a form, a field is given twice, or a text is not UTF-8.
    """
    fields: dict[str, str] = {}
    for part in _taken_apart(body, content_type).parts:
        if part.name in fields:
            raise WireFormatError(
                f"{part.name!r} is given twice; keep one of them, or send JSON", field=part.name
            )
        fields[part.name] = _text(part) if part.file_name is None else part.file_name
    return fields


def form_files(body: bytes, content_type: str) -> frozenset[str]:
    """The names of the fields that are sent as files.

    Raises:
        WireFormatError: it is not such a form.
    """
    return frozenset(
        [part.name for part in _taken_apart(body, content_type).parts if part.file_name is not None]
    )


def amended_form(body: bytes, content_type: str, changes: Mapping[str, str]) -> bytes:
    """The same form with other texts; files, order and every other byte stay, and new fields come last.

    Raises:
        WireFormatError: it is not such a form.
    """
    form = _taken_apart(body, content_type)
    raw_parts = [
        _raw(part.name, changes[part.name]) if part.name in changes else part.raw for part in form.parts
    ]
    there = {part.name for part in form.parts}
    raw_parts += [_raw(name, text) for name, text in changes.items() if name not in there]
    return form.together(raw_parts)


def _taken_apart(body: bytes, content_type: str) -> _Form:
    header = _headers(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n")
    boundary = (header.get_boundary() or "").encode("latin-1", "replace")
    if header.get_content_type() != "multipart/form-data" or not boundary:
        raise WireFormatError(f"not a multipart/form-data body with Content-Type {content_type!r}")
    preamble, *between = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not between or not between[-1].startswith(b"--"):
        raise WireFormatError("not a multipart/form-data body: its closing boundary is missing")
    *raw_parts, ending = between
    return _Form(boundary, preamble, [_part(raw) for raw in raw_parts], ending)


def _part(raw: bytes) -> _FormPart:
    line = raw.lstrip(_SPACE)
    head, blank, content = line.partition(b"\r\n\r\n")
    if not line.startswith(b"\r\n") or not blank:
        raise WireFormatError("not a multipart/form-data body: a part of it has no head")
    message = _headers(head.removeprefix(b"\r\n") + b"\r\n\r\n")
    name = message.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise WireFormatError("a part of the form has no name")
    if str(message.get("content-transfer-encoding", "")).lower() not in _PLAIN:
        raise WireFormatError(f"{name!r} is encoded; send it as it is", field=name)
    return _FormPart(raw, name, message.get_filename(), content)


def _headers(head: bytes) -> Message:
    return BytesHeaderParser(policy=HTTP).parsebytes(head)


def _text(part: _FormPart) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise WireFormatError(f"{part.name!r} is not UTF-8 text", field=part.name) from None


def _raw(name: str, text: str) -> bytes:
    return f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
