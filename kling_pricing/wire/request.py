"""A parsed payload, and the video request that it becomes, whatever API it was written for."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.facts import INPUT_OF, Facts
from kling_pricing.wire.media import MediaFacts, Medium


@dataclass(slots=True)
class ParsedPayload:
    """The inputs that a payload gives; fields that it leaves out or sets to null are not among them.

    Attributes:
        facts: fact -> value, for every fact that the payload determines; `model` is as the caller wrote it.
        fields: input -> the path of the field that gives it, such as `images` -> `image_urls`.
        media: the files that the payload names.
        open: fact -> its possible values, if the payload contradicts itself or leaves the fact to the API;
            None among them stands for the API's default.
    """

    facts: dict[str, Any]
    fields: dict[str, str]
    media: tuple[Medium, ...] = ()
    open: Mapping[str, tuple[Any, ...]] | None = None


@dataclass(slots=True)
class VideoRequest:
    """A request as it is checked and priced; nothing changes it.

    Attributes:
        wire_format: the wire format that it is written in.
        model: the model as the caller wrote it; the canonical name is `facts["model"]`.
        facts: all facts that rules and prices depend on, defaults included.
        stated_fields: input -> path of the field, for the inputs that the payload gives.
        field_names: input -> path of the field, for all inputs of the wire format.
        defaults: the API's defaults for the inputs that the model takes.
        implied_by: the input that decided the action, if the payload asks for the general action.
        media: the files that the request names, with the facts that the caller gives about them.
        completions: the facts with every unknown one filled in: each combination that the API could accept and
            that may be the dearest or the cheapest; empty if every fact that matters is known.
        open_facts: the facts that the completions fill in.
        format_assumed: whether the wire format is the default because nothing decided it.
        readings: the facts with each of the values that a contradictory payload gives; empty if it does not
            contradict itself.
        endpoint: the endpoint that the request is posted to; None if no URL is given.
    """

    wire_format: str
    model: str
    facts: Facts
    stated_fields: Mapping[str, str]
    field_names: Mapping[str, str]
    defaults: Mapping[str, Any]
    implied_by: str | None = None
    media: tuple[tuple[Medium, MediaFacts], ...] = ()
    completions: tuple[Mapping[str, Any], ...] = ()
    open_facts: tuple[str, ...] = ()
    format_assumed: bool = False
    readings: tuple[Mapping[str, Any], ...] = ()
    endpoint: Endpoint | None = None

    @property
    def names_model(self) -> bool:
        """Whether payloads of this wire format name their model; otherwise the path of the URL does."""
        return "model" in self.field_names

    @property
    def format_and_model(self) -> str:
        """The wire format and, unless the payload names it, the model; they decide what it asks for."""
        return format_and_model(self.wire_format, self.stated_fields, self.facts["model"])

    @property
    def assumption(self) -> str:
        """The end of a sentence that says which model is assumed; empty if the payload or its path names it."""
        if "model" in self.stated_fields or not self.names_model:
            return ""
        ignored = (
            f", because the API ignores the field `{self.facts['model_ignored']}`"
            if self.facts["model_ignored"]
            else ""
        )
        return f" (the model is {self.model}, the default for this path{ignored})"

    def field(self, fact: str) -> str:
        """Returns the path of the field to change so that `fact` has another value."""
        source = INPUT_OF.get(fact, fact)
        if fact == "start_images" and source not in self.stated_fields and "first_frame" in self.stated_fields:
            source = "first_frame"  # a first frame counts as an image, too
        if fact == "video_length_s":
            path = next((medium.field for medium, _ in self.media if medium.kind == "video"), None)
        else:
            path = self.stated_fields.get(source)
        return path or self.field_names.get(source, source)


def format_and_model(wire_format: str, stated_fields: Container[str], model: str) -> str:
    """Returns a wire format, followed by the model unless the payload names it."""
    return wire_format if "model" in stated_fields else f"{wire_format} {model}"
