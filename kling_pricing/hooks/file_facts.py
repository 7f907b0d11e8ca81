"""Facts about the files of a submission, from the option `media` and from a header of the request.

The price of some requests depends on the length of a video. Without it, the hook reserves the price of the
longest video that the API accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from kling_pricing.display import json_kind, shown
from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.strict_json import EXACT_JSON, json_value
from kling_pricing.wire.media import MediaFacts, MediaLike

MEDIA_HEADER = "x-kling-pricing-media"
"""The header with which a caller gives facts about the files of one request; it is not sent."""

MediaOption: TypeAlias = MediaLike | Callable[[str], MediaFacts | Mapping[str, Any] | None]
"""URL -> the file's facts, as a mapping or as a function that returns None for an unknown file."""


def media_facts(option: MediaOption | None, headers: Mapping[str, str], urls: Iterable[str]) -> MediaLike:
    """Returns the known facts about the files of a request; those in its header override the option.

    Args:
        option: the hook's option.
        headers: the request's headers, with lower-case names.
        urls: the URLs of the files.

    Raises:
        KlingPricingError: the header is not a JSON object.
    """
    in_header = _header_facts(headers.get(MEDIA_HEADER))
    known = {}
    for url in urls:
        if url in in_header:
            known[url] = in_header[url]
        elif callable(option):
            known[url] = option(url)
        elif option is not None:
            known[url] = option.get(url)
    return {url: facts for url, facts in known.items() if facts is not None}


def _header_facts(text: str | None) -> Mapping[str, Any]:
    if text is None:
        return {}
    try:
        facts = json_value(text, decoder=EXACT_JSON)
    except WireFormatError as error:
        raise KlingPricingError(f"{MEDIA_HEADER}: {error}; {_EXPECTED}") from None
    if not isinstance(facts, Mapping):
        raise KlingPricingError(f"{MEDIA_HEADER}: got {json_kind(facts)}; {_EXPECTED}")
    return facts


_EXPECTED = 'write a JSON object such as {"https://example.com/dance.mp4": {"length_s": 5}}'


def check_media_option(option: Any) -> None:
    """Checks the option `media`.

    Raises:
        KlingPricingError: it is neither a mapping nor a function.
    """
    if option is not None and not isinstance(option, Mapping) and not callable(option):
        raise KlingPricingError(
            "media must be a mapping from URLs to facts, or a function that returns the facts about a URL, "
            f"got {shown(option)}"
        )
