"""What the caller knows of the files behind a request's URLs. Nothing is ever downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.display import json_kind, shown
from kling_pricing.errors import KlingPricingError

_LARGEST = 10**15
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TYPE_SPELLINGS = {"jpg": "jpeg", "quicktime": "mov"}


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Facts of one file, as far as they are known; None is "not known".

    Attributes:
        size_bytes: the file's size.
        type: file type, as `image/png`, `.PNG` or `png`; kept as `jpeg`, `png`, `webp`, `mp4`, `mov`.
        length_s: a video's length in seconds, as a whole number, a `Decimal` or text such as `"5.04"`.

    Raises:
        KlingPricingError: a fact is of another kind; a float, for one, is already rounded.
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
        field: where the request names it, as the wire spells it: `image_urls[1]`.
        url: the file's address.
    """

    kind: str
    field: str
    url: str


MediaLike: TypeAlias = Mapping[str, "MediaFacts | Mapping[str, Any]"]
"""URL -> its facts: `MediaFacts`, or a mapping with the same keys (text is read: `"5.04"`, `"video/mp4"`)."""


def facts_of(url: str, media: MediaLike) -> MediaFacts:
    """The facts given for one URL; all unknown when there are none.

    Raises:
        KlingPricingError: the facts given for this URL cannot be read; the message names the key.
    """
    given = media.get(url, UNKNOWN)
    if isinstance(given, MediaFacts):
        return given
    place = f"media facts of {shown(url)}"
    if not isinstance(given, Mapping):
        raise KlingPricingError(
            f"{place}: must be a mapping with {', '.join(_READERS)}, got {json_kind(given)}"
        )
    if unknown := [key for key in given if key not in _READERS]:
        raise KlingPricingError(f"{place}: unknown key {shown(unknown[0])}; known here: {', '.join(_READERS)}")
    try:
        return MediaFacts(**given)
    except KlingPricingError as error:
        raise KlingPricingError(f"{place}: {error}") from None


def _size_bytes(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise KlingPricingError(f"size_bytes must be a whole number of bytes, got {shown(value)}")
    return value


def _type(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise KlingPricingError(f"type must be a file type such as 'image/png' or 'mp4', got {shown(value)}")
    short = value.lower().rpartition("/")[2].lstrip(".")
    return _TYPE_SPELLINGS.get(short, short)


def _length_s(value: Any) -> Decimal:
    if (isinstance(value, str) and _SECONDS.fullmatch(value)) or (
        type(value) is int and 0 <= value <= _LARGEST
    ):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= _LARGEST:
        return value
    raise KlingPricingError(
        f"length_s must be seconds as a whole number, a Decimal or text such as '5.04', got {shown(value)}"
        " (a float is already rounded)"
    )


_READERS = {"size_bytes": _size_bytes, "type": _type, "length_s": _length_s}
UNKNOWN = MediaFacts()
