"""Facts that the caller gives about the files behind a request's URLs. Nothing is ever downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.display import did_you_mean, joined_with_and, json_kind, shown
from kling_pricing.errors import KlingPricingError

_MAX_NUMBER = 10**15
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TYPE_SPELLINGS = {"jpg": "jpeg", "quicktime": "mov"}


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """The known facts about one file; None means "unknown".

    Attributes:
        size_bytes: the file's size in bytes.
        type: the file type, given as `image/png`, `.PNG` or `png`, and kept as `jpeg`, `png`, `webp`, `mp4` or
            `mov`.
        length_s: a video's length in seconds, given as a whole number, a `Decimal` or text such as `"5.04"`.

    Raises:
        KlingPricingError: a fact has another type, such as a float, which is already rounded.
    """

    size_bytes: int | None = None
    type: str | None = None
    length_s: Decimal | None = None

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read(value))


class Medium(NamedTuple):
    """One file that a request names.

    Attributes:
        kind: `image` or `video`.
        field: the path of the field that names it, as the payload spells it: `image_urls[1]`.
        url: the file's URL.
    """

    kind: str
    field: str
    url: str


MediaLike: TypeAlias = Mapping[str, "MediaFacts | Mapping[str, Any]"]
"""URL -> the file's facts, as `MediaFacts` or as a mapping with the same keys and values."""


def list_media(kind: str, field: str, urls: Iterable[str]) -> list[Medium]:
    """Returns the files in a list field; `field` has `{}` in place of the index: `image_urls[{}]`."""
    before, _, after = field.partition("{}")
    return [Medium(kind, f"{before}{index}{after}", url) for index, url in enumerate(urls)]


def facts_of(url: str, media: MediaLike) -> MediaFacts:
    """Returns the facts that the caller gives for a URL; all are unknown if there are none.

    Raises:
        KlingPricingError: the facts for this URL cannot be read; the message names the key.
    """
    facts = media.get(url, UNKNOWN)
    if isinstance(facts, MediaFacts):
        return facts
    try:
        return _read_facts(facts)
    except KlingPricingError as error:
        raise KlingPricingError(f"media facts for {shown(_without_access(url))}: {error}") from None


def _read_facts(facts: Any) -> MediaFacts:
    if type(facts) is not dict and not isinstance(facts, Mapping):
        raise KlingPricingError(
            f"must be a mapping with one or more of the keys {joined_with_and(_READERS)}; "
            f"got {json_kind(facts)}"
        )
    for key in facts:
        if key not in _READERS:
            raise KlingPricingError(f"unknown key {shown(key)}; {did_you_mean(str(key), _READERS)}")
    return MediaFacts(**facts)


def _without_access(url: str) -> str:
    """Returns a URL without its user, password and query, which may give access to the file."""
    address, question, _ = url.partition("?")
    scheme, separator, rest = address.rpartition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}{question and '?...'}"


def _size_bytes(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise KlingPricingError(f"size_bytes must be a whole number of bytes, got {shown(value)}")
    return value


def _type(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise KlingPricingError(f"type must be a file type, such as 'image/png' or 'mp4', got {shown(value)}")
    short = value.lower().rpartition("/")[2].lstrip(".")
    return _TYPE_SPELLINGS.get(short, short)


def _length_s(value: Any) -> Decimal:
    if (isinstance(value, str) and _SECONDS.fullmatch(value)) or (
        type(value) is int and 0 <= value <= _MAX_NUMBER
    ):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= _MAX_NUMBER:
        return value
    why = " (a float is already rounded)" if isinstance(value, float) else ""
    raise KlingPricingError(
        "length_s must be a number of seconds, as a whole number, a Decimal or text such as '5.04', "
        f"got {shown(value)}{why}"
    )


_READERS = {"size_bytes": _size_bytes, "type": _type, "length_s": _length_s}
UNKNOWN = MediaFacts()
"""The facts about a file of which the caller gives none."""
