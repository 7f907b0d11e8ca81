"""One video request, whatever API it was written for, and the facts that rules may speak of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.facts import INPUT_OF, Facts
from kling_pricing.wire.media import MediaFacts, Medium


@dataclass(slots=True)
class ParsedPayload:
    """What a payload says, and nothing more: a field it leaves out (or sets to null) is not here.

    Attributes:
        facts: fact -> value, for every fact the payload determines; `model` is as the caller wrote it.
        fields: input -> the wire field that says it, such as `images` -> `image_urls`.
        media: the files it names.
        open: fact -> the values it may have, where the payload contradicts itself or leaves it to the API;
            None among them is the API's default.
    """

    facts: dict[str, Any]
    fields: dict[str, str]
    media: tuple[Medium, ...] = ()
    open: Mapping[str, tuple[Any, ...]] | None = None


@dataclass(slots=True)
class VideoRequest:
    """A request as it will be checked and priced; nothing changes it.

    Attributes:
        wire_format: the API shape it was written in.
        model: the model as the caller wrote it; the canonical name is `facts.model`.
        facts: everything rules and prices depend on, defaults included.
        said: input -> wire field, for what the payload itself says.
        field_names: input -> wire field, for everything the wire format can say.
        defaults: the API's defaults for what the model takes.
        implied_by: the input that decided the action, when the payload's own action is the general one.
        media: each file it names, with what the caller knows of it.
        completions: the facts with every unknown one filled in, in each way that the API could accept and
            that can be dearest or cheapest; empty when all that matters is known.
        open_facts: the facts that the completions fill in.
        format_assumed: whether nothing decided the wire format, so that the default was taken.
        readings: the facts with every value that a payload which contradicts itself gives them; else empty.
        endpoint: what the URL that it is posted to says; None when no URL is given.
    """

    wire_format: str
    model: str
    facts: Facts
    said: Mapping[str, str]
    field_names: Mapping[str, str]
    defaults: Mapping[str, Any]
    implied_by: str | None = None
    media: tuple[tuple[Medium, MediaFacts], ...] = ()
    completions: tuple[Mapping[str, Any], ...] = ()
    open_facts: tuple[str, ...] = ()
    format_assumed: bool = False
    readings: tuple[Mapping[str, Any], ...] = ()
    endpoint: Endpoint | None = None

    def field(self, fact: str) -> str:
        """The wire field to change for another value of `fact`."""
        source = INPUT_OF.get(fact, fact)
        if fact == "video_length_s":
            named = next((medium.field for medium, _ in self.media if medium.kind == "video"), None)
            return named or self.field_names.get(source, source)
        return self.said.get(source) or self.field_names.get(source, source)
