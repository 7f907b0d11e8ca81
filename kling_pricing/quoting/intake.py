"""The one door: from any payload to a request, the matrix it is held against and the table it is priced by.

Quoting, checking, guarding and the command line all come through here, so they all read a payload the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from kling_pricing.display import reportable, shown
from kling_pricing.errors import CapabilityError, KlingPricingError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Violation
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.capabilities import CapabilityMatrix, fillings
from kling_pricing.tables.price_table import PriceBook, PriceTable, period
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.facts import Facts, counts_as_reference
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import marked_formats
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaFacts, MediaLike, Medium, facts_of
from kling_pricing.wire.request import ParsedPayload, VideoRequest

DEFAULT_WIRE_FORMAT = "tasks"


def read_request(
    request: RequestLike,
    book: PriceBook,
    wire_format: str | None = None,
    provider: str | None = None,
    media: MediaLike | None = None,
    *,
    allow_unknown: bool = False,
    url: str | None = None,
) -> tuple[VideoRequest, CapabilityMatrix]:
    """Reads a payload: finds the model, applies its API's defaults and lets the inputs decide the action.

    `url` is where it is posted to, which tells the wire format when that is not given.

    Returns:
        The request, and the matrix it is to be held against.

    Raises:
        WireFormatError: the payload does not have the wire format's shape.
        CapabilityError: the model is missing or not one the wire format knows.
        KlingPricingError: `book`, `media` or `url` cannot be used.
    """
    payload = read_payload(request)
    if provider is not None and not isinstance(provider, str):
        raise PriceNotFoundError(f"provider must be text, got {type(provider).__name__}")
    if wire_format is not None and not isinstance(wire_format, str):
        raise WireFormatError(f"wire_format must be text, got {type(wire_format).__name__}")
    if not isinstance(book, PriceBook):
        raise KlingPricingError(
            f"book must be a PriceBook, such as load_price_book() makes, got {type(book).__name__}"
        )
    if media is not None and not isinstance(media, Mapping):
        raise KlingPricingError(f"media must be a mapping of URL to facts, got {type(media).__name__}")
    endpoint = None if url is None else book.endpoint(url)
    if wire_format is not None:
        name, assumed = wire_format, False
    elif endpoint is not None:
        name, assumed = format_at(endpoint, payload, book, provider)
    else:
        name, assumed = choose_format(payload, book, provider)
    wire = wire_format_named(name)
    matrix = book.matrices[name]
    said = wire.parse(payload, allow_unknown=allow_unknown)
    fields = said.fields
    written: Any = said.facts.get("model")
    known = matrix.names.get(written)
    if known is None or (matrix.ignored_fields and endpoint is not None):
        written, known = _model(said, endpoint, matrix, book)
    capabilities = matrix.models[known[0]]
    facts = capabilities.with_defaults(said.facts, known[1])
    facts["duration_stated"], facts["resolution_stated"] = "duration_s" in fields, "resolution" in fields
    if facts["shots_length_s"]:
        facts["shots_excess_s"] = facts["shots_length_s"] - (facts["duration_s"] or 0)
    known_media = _add_media(facts, said.media, media or {}) if said.media else ()
    if (known_media or facts["elements"]) and "reference" not in said.facts:
        facts["reference"] = counts_as_reference(facts)
    implied_by = None
    if facts["action"] == capabilities.general_action and len(implied := capabilities.imply_action(facts)) == 1:
        facts["action"], implied_by = implied[0]
    unknown: tuple[str, ...] = ()
    completions: tuple[Mapping[str, Any], ...] = ()
    readings: tuple[Mapping[str, Any], ...] = ()
    if capabilities.open_facts:
        unknown = capabilities.unknown(facts, fields, known_media, book.priced_facts)
    possible: Mapping[str, tuple[Any, ...]] = {}
    if said.open:  # these are open even where the API has a default
        possible = _possible(said.open, capabilities.defaults)
        contested = [fact for fact in possible if said.facts.get(fact) is None]
        unknown = tuple(dict.fromkeys((*contested, *unknown)))
        readings = fillings(facts, contested, [possible[fact] for fact in contested])
    if unknown:
        completions = capabilities.completions(facts, unknown, possible)
    read = VideoRequest(
        name,
        written,
        facts,
        fields,
        wire.FIELD_NAMES,
        capabilities.assumable,
        implied_by,
        known_media,
        completions,
        unknown,
        assumed,
        readings,
        endpoint,
    )
    return read, matrix


def _model(
    parsed: ParsedPayload, endpoint: Endpoint | None, matrix: CapabilityMatrix, book: PriceBook
) -> tuple[str, tuple[str, Mapping[str, Any]]]:
    """Returns the model as it is written, and its canonical name with the facts that the name implies.

    If the payload names no model, the path of the URL may give one.

    Raises:
        CapabilityError: the model is missing or unknown.
    """
    if endpoint is not None and matrix.ignored_fields:
        _drop_ignored_model(parsed, matrix, endpoint)
    written: Any = parsed.facts.get("model")
    if written is None and endpoint is not None:
        submission = endpoint.submission(matrix.wire_format)
        written = None if submission is None else submission.model
    known = matrix.names.get(written) or (matrix.find(written) if written is not None else None)
    if known is None:
        names = wire_format_named(matrix.wire_format).FIELD_NAMES
        raise _unknown_model(written, parsed.fields.get("model", names.get("model", "url")), matrix, book)
    return written, known


def _drop_ignored_model(parsed: ParsedPayload, matrix: CapabilityMatrix, endpoint: Endpoint) -> None:
    """Removes the model if it is in a field that the provider at this host ignores."""
    ignored = {entry.field for entry in matrix.ignored_fields if entry.provider == endpoint.provider}
    path = parsed.fields.get("model")
    if path in ignored:
        del parsed.facts["model"], parsed.fields["model"]
        parsed.facts["model_ignored"] = path


def _possible(
    values_of: Mapping[str, tuple[Any, ...]], defaults: Mapping[str, Any]
) -> dict[str, tuple[Any, ...]]:
    """The values that each open fact may have, each once, the API's default in its place."""
    return {
        fact: tuple(dict.fromkeys(defaults.get(fact) if each is None else each for each in values))
        for fact, values in values_of.items()
    }


def _add_media(
    facts: Facts, media: Sequence[Medium], known: MediaLike
) -> tuple[tuple[Medium, MediaFacts], ...]:
    """Each file with what the caller knows of it; of a video the request's facts get the length."""
    found = tuple([(medium, facts_of(medium.url, known)) for medium in media])
    for medium, told in found:
        if medium.kind == "video" and told.length_s is not None:
            facts["video_length_s"] = told.length_s
    return found


def choose_format(payload: Mapping[str, Any], book: PriceBook, provider: str | None) -> tuple[str, bool]:
    """The wire format a payload is written in.

    Fields and model names that only one format knows decide; else the provider's own format; else the default,
    unless the default does not know all the fields and just one other does.

    Returns:
        The format, and whether nothing decided it: neither the payload nor a provider that speaks only one.

    Raises:
        WireFormatError: the payload has marks of two formats; the message names both.
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
            (one, field), (other, another), *_ = marks.items()
            raise WireFormatError(
                f"{_mark(field, payload)} is of wire format {one}, but {_mark(another, payload)} is of "
                f"{other}; write the request for one of them, or name the format"
            )
        (name,) = marks
        return name, False
    if own := book.formats.get(provider or "", ()):
        return own[0], len(own) > 1
    if not wire_format_named(DEFAULT_WIRE_FORMAT).FIELDS.keys() >= payload.keys():
        fitting = _fitting(payload, book)
        if len(fitting) == 1:
            return fitting[0], False
    return DEFAULT_WIRE_FORMAT, True


def format_at(
    endpoint: Endpoint, payload: Mapping[str, Any], book: PriceBook, provider: str | None
) -> tuple[str, bool]:
    """The wire format of a payload that is posted to an endpoint, and whether nothing decided it.

    Of the formats that the endpoint takes, should there be several, the payload chooses as ever; one that
    looks like none of them is read as the first, so that the error tells what it has too much.
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
    """The wire formats that know every field of a payload, and its model."""
    return [
        name
        for name in WIRE_FORMATS
        if wire_format_named(name).FIELDS.keys() >= payload.keys()
        and payload.get("model") in [*book.matrices[name].names]
    ]


def _mark(field: str, payload: Mapping[str, Any]) -> str:
    return f"model {shown(payload[field])!r}" if field == "model" else f"field {field!r}"


def _unknown_model(
    written: str | None, field: str, matrix: CapabilityMatrix, book: PriceBook
) -> CapabilityError:
    known, close = list(matrix.names), []
    if written is None:
        paths = [submission.path for submission in matrix.submissions if submission.model is not None]
        message = f"{field} is required; known models: {', '.join(known)}"
        if paths and "model" in wire_format_named(matrix.wire_format).FIELD_NAMES:
            message += "; or pass the URL of the request, because its path has a default model"
        elif paths:
            message = (
                "this API names the model in the path of the URL, and no URL with such a path is given; "
                f"pass the URL of the request, which ends with one of: {', '.join(paths)}"
            )
            known = paths
        code = "model_required"
    elif (why := book.known_name(matrix, written)) is not None:
        message = f"{matrix.wire_format} has no model {shown(written)}: {why}"
        code = "unknown_model"
    else:
        message = f"unknown model {shown(written)}; known: {', '.join(known)}"
        code = "unknown_model"
        close = get_close_matches(str(written)[:80].lower(), known, n=1)
    source = "; ".join(matrix.sources)
    return CapabilityError(
        message,
        violations=[Violation(code, field, reportable(written), known, message, source)],
        suggestions=[{field: name} for name in close],
    )


def choose_table(request: VideoRequest, book: PriceBook, provider: str | None, at: datetime) -> PriceTable:
    """The price table of the provider in force at an instant.

    The provider is the one given, else the one at whose host the request is posted, else the one whose API
    speaks its wire format, if there is one.

    Raises:
        PriceNotFoundError: no provider can be chosen, none of its tables is in force, or the one in force does
            not price the model then.
    """
    if provider is None and request.endpoint is not None:
        provider = request.endpoint.provider
    if provider is None:
        speaking = book.providers.get(request.wire_format, ())
        if len(speaking) != 1:
            raise _no_provider(request, book, speaking)
        provider = speaking[0]
    table = book.table(provider, at)
    if request.wire_format not in table.priced_formats:
        known = ", ".join((*table.wire_formats, *table.also_prices))
        raise PriceNotFoundError(
            f"{table.id} does not price requests of {request.wire_format}, of whose billing it says nothing; "
            f"it prices requests of {known}",
            provider=provider,
            model=request.facts["model"],
        )
    if table.model_periods:
        _check_model_period(table, request.facts["model"], at)
    return table


def _check_model_period(table: PriceTable, model: str, at: datetime) -> None:
    own = table.model_periods.get(model)
    if own is not None and not own.holds(at):
        raise PriceNotFoundError(
            f"no price of {model} is in force at {at.isoformat()}: {table.id} prices it {period(own)} only; "
            "price at an instant within that, or add a table of your own",
            provider=table.provider,
            model=model,
        )


def _no_provider(request: VideoRequest, book: PriceBook, speaking: Sequence[str]) -> PriceNotFoundError:
    model, wire_format = request.facts["model"], request.wire_format
    pricing = [
        name
        for name, tables in book.tables.items()
        if any(model in table.models and wire_format in table.priced_formats for table in tables)
    ]
    if speaking:
        problem = f"several providers speak {wire_format} ({', '.join(speaking)})"
    else:
        problem = f"no provider with known prices speaks {wire_format}"
    if pricing:
        remedy = f"choose whose prices apply with provider=...; {model} is priced by: {', '.join(pricing)}"
    else:
        remedy = f"nobody prices {model}: add a table of your own"
    return PriceNotFoundError(f"{problem}; {remedy}", model=model, priced_instead=pricing)
