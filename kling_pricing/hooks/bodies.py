"""Bodies of submissions: read as JSON or as a form, and written again in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.strict_json import read_payload
from kling_pricing.wire.forms import amended_form, form_fields, form_files


class Body(NamedTuple):
    """The body of a submission.

    Attributes:
        payload: what it says.
        raw: as it came.
        form_type: the Content-Type of a form, with its boundary; None: it is JSON.
        files: the fields of a form that are sent as files; their names are in `payload`.
    """

    payload: Mapping[str, Any]
    raw: bytes
    form_type: str | None
    files: frozenset[str] = frozenset()

    def written(self, payload: Mapping[str, Any]) -> bytes | None:
        """The same body with another payload; None: the payload is no other.

        In a form only the fields that differ change: files, order and boundary stay.
        """
        if payload == self.payload:
            return None
        if self.form_type is None:
            return json.dumps(payload, separators=(",", ":")).encode()
        before, after = dict(_flat(self.payload)), dict(_flat(payload))
        changes = {name: text for name, text in after.items() if before.get(name) != text}
        return amended_form(self.raw, self.form_type, changes)


def read_body(raw: bytes, headers: Mapping[str, str]) -> Body:
    """Reads a body.

    Args:
        raw: as it goes out.
        headers: of the request, their names in small letters.

    Raises:
        WireFormatError: it is neither JSON nor the form that its Content-Type says, or it is compressed.
    """
    try:
        return _read(raw, headers.get("content-type", ""))
    except WireFormatError:
        if encoding := headers.get("content-encoding"):
            raise WireFormatError(
                f"the body cannot be read, for it is compressed (Content-Encoding: {shown(encoding)}); "
                "send it as it is"
            ) from None
        raise


def _read(raw: bytes, content_type: str) -> Body:
    if content_type.lower().lstrip().startswith("multipart/"):
        return Body(form_fields(raw, content_type), raw, content_type, form_files(raw, content_type))
    return Body(read_payload(raw), raw, None)


def _flat(tree: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """A payload as the flat text of a form: `metadata[output_config][duration]`."""
    for name, value in tree.items():
        path = f"{group}[{name}]" if group else name
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)
