"""The fields of forms and of URLs, read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qsl

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError

_MAX_FIELDS = 200
"""The largest number of fields in a form."""


class Form(Mapping[str, str]):
    """Fields by name. A field that is empty or missing is the empty text.

    Args:
        fields: name -> the values of the fields with this name.
    """

    def __init__(self, fields: Mapping[str, list[str]] | None = None) -> None:
        self._fields = dict(fields or {})

    def __getitem__(self, name: str) -> str:
        return self._fields.get(name, [""])[-1].strip()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, name: str) -> str:
        """Returns a field as it was typed, with its line breaks as line feeds."""
        return self._fields.get(name, [""])[-1].replace("\r\n", "\n")

    def given(self, name: str) -> str | None:
        """Returns a field; None: it is empty or missing."""
        return self[name] or None

    def all(self, name: str) -> list[str]:
        """Returns the values of every field with a name, without empty ones."""
        return [value.strip() for value in self._fields.get(name, []) if value.strip()]

    def is_ticked(self, name: str) -> bool:
        """Returns whether a box is ticked."""
        return bool(self[name])

    def instant(self, name: str) -> datetime | None:
        """Returns a field with a date and a time in UTC, as browsers send it; None: it is empty.

        Raises:
            KlingPricingError: it is not a date and a time.
        """
        text = self[name]
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):  # the last one: in UTC, it is before the year 1 or after 9999
            raise KlingPricingError(
                f"{name}: must be a date and a time in UTC, such as 2026-12-01T18:00, got {shown(text)}"
            ) from None

    def day(self, name: str) -> date | None:
        """Returns a field with a date, of which there is a next day; None: it is empty.

        Raises:
            KlingPricingError: it is not a date.
        """
        text = self[name]
        if not text:
            return None
        try:
            day = date.fromisoformat(text)
            day + timedelta(days=1)
        except (ValueError, OverflowError):
            raise KlingPricingError(f"{name}: must be a date such as 2026-12-01, got {shown(text)}") from None
        return day

    def labels(self, name: str) -> dict[str, str]:
        """Returns a field with one label a line, as `LABEL=VALUE`.

        Raises:
            KlingPricingError: a line is not a label.
        """
        labels: dict[str, str] = {}
        for line in filter(None, map(str.strip, self.text(name).replace(",", "\n").split("\n"))):
            label, equals, value = (part.strip() for part in line.partition("="))
            if not (label and equals and value) or label in labels:
                raise KlingPricingError(
                    f"{name}: write each label once, as LABEL=VALUE, such as user=li, got {shown(line)}"
                )
            labels[label] = value
        return labels


def form_of(text: bytes) -> Form:
    """Reads the fields of a form or of a URL, percent-encoded UTF-8.

    Raises:
        KlingPricingError: there are too many fields, or they are not UTF-8.
    """
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise KlingPricingError("the form cannot be read; open the page again") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)
