"""What the caller knows of the files behind a request's URLs. Nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.errors import KlingPricingError

_TYPE_SPELLINGS = {"jpg": "jpeg", "quicktime": "mov"}


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Facts of one file, as far as they are known; None is "not known".

    Attributes:
        size_bytes: the file's size.
        type: file type in lower case without `image/` or `video/`: `jpeg`, `png`, `webp`, `mp4`, `mov`.
        length_s: a video's length in seconds.
    """

    size_bytes: int | None = None
    type: str | None = None
    length_s: Decimal | None = None


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

UNKNOWN = MediaFacts()


def facts_of(url: str, media: MediaLike) -> MediaFacts:
    """The facts given for one URL; all unknown when there are none.

    Raises:
        KlingPricingError: the facts given for this URL cannot be read; the message names the key.
    """
    given = media.get(url, UNKNOWN)
    if isinstance(given, MediaFacts):
        return given
    place = f"media facts of {url!r}"
    if not isinstance(given, Mapping):
        raise KlingPricingError(f"{place}: must be a mapping with {_KNOWN}, got {given!r}")
    if unknown := sorted(str(key) for key in given.keys() - _READERS.keys()):
        raise KlingPricingError(f"{place}: unknown key {unknown[0]!r}; known here: {_KNOWN}")
    read: dict[str, Any] = {
        key: _READERS[key](value, f"{place}: {key}") for key, value in given.items() if value is not None
    }
    return MediaFacts(**read)


def _size_bytes(value: Any, place: str) -> int:
    if type(value) is not int or value < 0:
        raise KlingPricingError(f"{place}: must be a whole number of bytes, got {value!r}")
    return value


def _type(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise KlingPricingError(f"{place}: must be a file type such as 'image/png' or 'mp4', got {value!r}")
    short = value.lower().rpartition("/")[2].lstrip(".")
    return _TYPE_SPELLINGS.get(short, short)


def _length_s(value: Any, place: str) -> Decimal:
    if isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        try:
            length_s = Decimal(value)
        except InvalidOperation:
            pass
        else:
            if length_s.is_finite() and length_s >= 0:
                return length_s
    raise KlingPricingError(
        f"{place}: must be seconds as an int, a Decimal or text such as '5.04', got {value!r}"
        " (a float is already rounded)"
    )


_READERS = {"size_bytes": _size_bytes, "type": _type, "length_s": _length_s}
_KNOWN = ", ".join(item.name for item in fields(MediaFacts))
