"""Bodies of submissions: reads JSON and forms, and writes a changed payload in the same encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.strict_json import json_value, read_payload
from kling_pricing.tables.http_rules import Idempotency
from kling_pricing.wire.forms import amended_form, form_fields, form_files


class Body(NamedTuple):
    """The body of a submission.

    Attributes:
        payload: the fields of the body.
        raw: the bytes of the body.
        form_type: the Content-Type of a form, with its boundary; None: the body is JSON.
        files: the names of the form fields that are sent as files; `payload` has their file names.
    """

    payload: Mapping[str, Any]
    raw: bytes
    form_type: str | None
    files: frozenset[str] = frozenset()

    def sent(
        self, payload: Mapping[str, Any], idempotency: Idempotency | None, key: str
    ) -> tuple[bytes | None, Mapping[str, str]]:
        """Returns the body and the further headers with which a payload is sent under a key.

        The key replaces the caller's, so that one reservation is one task.
        """
        return self.written(payload), {} if idempotency is None else {idempotency.header: key}

    def written(self, payload: Mapping[str, Any]) -> bytes | None:
        """Returns the same body with another payload; None: the payload is unchanged.

        In a form only the changed fields differ: files, order and boundary stay the same.
        """
        if payload == self.payload:
            return None
        if self.form_type is None:
            return json.dumps(payload, separators=(",", ":")).encode()
        before, after = dict(_form_fields(self.payload)), dict(_form_fields(payload))
        changes = {name: text for name, text in after.items() if before.get(name) != text}
        return amended_form(self.raw, self.form_type, changes)


def read_body(raw: bytes, headers: Mapping[str, str]) -> Body:
    """Reads the body of a submission.

    Args:
        raw: the bytes of the body.
        headers: the request's headers, with lower-case names.

    Raises:
        WireFormatError: the body is compressed, or is neither JSON nor the form that its Content-Type states.
    """
    with _named_encoding(headers):
        return _read(raw, headers.get("content-type", ""))


def read_json(raw: bytes, headers: Mapping[str, str]) -> Any:
    """Reads a body that is any JSON value.

    Raises:
        WireFormatError: the body is compressed or is not JSON.
    """
    with _named_encoding(headers):
        return json_value(raw)


@contextmanager
def _named_encoding(headers: Mapping[str, str]) -> Iterator[None]:
    """Replaces the error about a compressed body by one that names its encoding."""
    try:
        yield
    except WireFormatError:
        if encoding := headers.get("content-encoding"):
            raise WireFormatError(
                f"the body is compressed (Content-Encoding: {shown(encoding)}), so the request cannot be "
                "priced; send the body uncompressed"
            ) from None
        raise


def _read(raw: bytes, content_type: str) -> Body:
    if content_type.lower().lstrip().startswith("multipart/"):
        return Body(form_fields(raw, content_type), raw, content_type, form_files(raw, content_type))
    return Body(read_payload(raw), raw, None)


def _form_fields(payload: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, str]]:
    """Yields a payload as the fields of a form, with nested names: `metadata[output_config][duration]`."""
    for name, value in payload.items():
        path = f"{parent}[{name}]" if parent else name
        if isinstance(value, Mapping):
            yield from _form_fields(value, path)
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)
