"""Fields of a payload that do not affect the price: the caller's own id, and the URL for callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class CallbackSealing(Protocol):
    """Puts a URL of a server of our own in the place of a caller's URL for callbacks."""

    def check(self, url: str) -> None:
        """Does nothing if callbacks may be sent to a URL.

        Raises:
            KlingPricingError: they may not.
        """

    def sealed(self, url: str, reservation_id: str) -> str:
        """Returns the URL to send to the provider. Equal arguments give equal URLs."""


def text_at(payload: Mapping[str, Any], place: Sequence[str]) -> str:
    """Returns the text at a place of a payload, such as `("options", "callback_url")`; empty: there is none."""
    value: Any = payload
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and place else ""


def with_text(payload: Mapping[str, Any], place: Sequence[str], text: str) -> Mapping[str, Any]:
    """Returns a payload with a text at a place. Its other fields are the same, in the same order."""
    name, *rest = place
    return {**payload, name: with_text(payload.get(name) or {}, rest, text) if rest else text}
