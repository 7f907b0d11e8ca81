"""Chooses the wire format of a payload: by its fields and model, its provider, or the URL of the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import marked_formats
from kling_pricing.wire.formats import wire_format as wire_format_named

DEFAULT_WIRE_FORMAT = "tasks"


def choose_format(payload: Mapping[str, Any], book: PriceBook, provider: str | None) -> tuple[str, bool]:
    """Chooses the wire format of a payload.

    Fields and model names that only one format has determine the format. Otherwise, the provider's first format
    is used, or else the default format. If the default format lacks some of the fields and exactly one other
    format has all of them, that other format is used.

    Returns:
        The format, and whether the format is assumed. It is not assumed if the payload or a provider with a
        single format determines it.

    Raises:
        WireFormatError: parts of the payload belong to different formats; the message names two of them.
    """
    marks = marked_formats(payload)
    model = payload.get("model")
    if isinstance(model, str):
        marked = book.marking_models.get(model)
        if marked is None and not model.islower():
            marked = book.marking_models.get(model.lower())
        if marked is not None and marked not in marks and not _is_known(model, marks, book):
            marks.setdefault(marked, "model")
    if marks:
        if len(marks) > 1:
            (one, field), (other, other_field), *_ = marks.items()
            raise WireFormatError(
                f"{_mark(field, payload)} belongs to wire format {one}, but {_mark(other_field, payload)} "
                f"belongs to {other}; use fields and names of only one of the two, or specify the wire format"
            )
        (name,) = marks
        return name, False
    if provider and (formats := book.formats.get(provider)):
        return formats[0], len(formats) > 1
    if not wire_format_named(DEFAULT_WIRE_FORMAT).FIELDS.keys() >= payload.keys():
        fitting = _fitting(payload, book)
        if len(fitting) == 1:
            return fitting[0], False
    return DEFAULT_WIRE_FORMAT, True


def format_at(
    endpoint: Endpoint, payload: Mapping[str, Any], book: PriceBook, provider: str | None
) -> tuple[str, bool]:
    """Chooses the wire format of a payload for an endpoint; returns the same values as `choose_format`.

    If the endpoint accepts several formats, the payload determines which one is used. A payload that matches
    none of them is read as the first, so that the error lists the unexpected fields.
    """
    taken = endpoint.wire_formats
    if len(taken) == 1:
        return taken[0], False
    chosen, assumed = choose_format(payload, book, provider or endpoint.provider)
    return (taken[0], True) if taken and chosen not in taken else (chosen, assumed)


def _is_known(model: str, wire_formats: Iterable[str], book: PriceBook) -> bool:
    """Returns whether one of the wire formats has a model of this name."""
    return any(book.matrices[name].find(model) for name in wire_formats)


def _fitting(payload: Mapping[str, Any], book: PriceBook) -> list[str]:
    """Returns the wire formats that have every field of a payload and its model."""
    return [
        name
        for name in WIRE_FORMATS
        if wire_format_named(name).FIELDS.keys() >= payload.keys()
        and payload.get("model") in [*book.matrices[name].names]
    ]


def _mark(field: str, payload: Mapping[str, Any]) -> str:
    return f"model {shown(payload[field])!r}" if field == "model" else f"field {field!r}"
