"""The one door from a payload to a request, its capability matrix and the price table that applies.

`quote`, `check`, `compare`, the variants and the guard all read payloads through an `Intake`, so they all read
a payload the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from kling_pricing.display import joined_with_and, joined_with_or, nearest, reportable, shown
from kling_pricing.errors import CapabilityError, KlingPricingError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Violation
from kling_pricing.quoting.format_choice import choose_format, format_at
from kling_pricing.tables.capabilities import CapabilityMatrix, fillings
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable, period
from kling_pricing.tables.rates import Validity
from kling_pricing.windows import instant
from kling_pricing.wire.endpoints import Endpoint, provider_and_path
from kling_pricing.wire.facts import Facts, counts_as_reference
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import UNKNOWN, MediaFacts, MediaLike, Medium, facts_of
from kling_pricing.wire.request import ParsedPayload, VideoRequest

_NO_VALUES: Mapping[str, tuple[Any, ...]] = {}


class Intake:
    """The settings for reading and pricing payloads: the price book, the instant and the options.

    Args:
        provider: the provider whose prices apply; if None, the host or the wire format determines it.
        wire_format: the wire format of the payloads; if None, the URL or the payload determines it.
        at: the instant whose prices apply, with a time zone; if None, now.
        book: the price tables and capability matrices; if None, the default book.
        media: URL -> facts about the file at that URL.
        allow_unknown: whether to ignore fields that the API does not document.
        url: the endpoint that receives the payload.

    Raises:
        PriceNotFoundError: `provider` is not text.
        WireFormatError: `wire_format` is not text.
        KlingPricingError: `at`, `book` or `media` cannot be used.
        TableError: a table of the default book cannot be loaded.
    """

    __slots__ = ("allow_unknown", "at", "book", "media", "provider", "url", "wire_format")

    def __init__(
        self,
        provider: str | None = None,
        wire_format: str | None = None,
        at: datetime | None = None,
        book: PriceBook | None = None,
        media: MediaLike | None = None,
        allow_unknown: bool = False,  # noqa: FBT001, FBT002 (a keyword-only argument would double the cost of a call)
        url: str | None = None,
    ) -> None:
        if book is None:
            book = default_book()
        elif not isinstance(book, PriceBook):
            raise KlingPricingError(
                f"book must be a PriceBook from load_price_book(), got {type(book).__name__}"
            )
        if provider is not None and not isinstance(provider, str):
            raise PriceNotFoundError(f"provider must be text, got {type(provider).__name__}")
        if wire_format is not None and not isinstance(wire_format, str):
            raise WireFormatError(f"wire_format must be text, got {type(wire_format).__name__}")
        if media is not None and type(media) is not dict and not isinstance(media, Mapping):
            raise KlingPricingError(
                f"media must be a mapping from URLs to facts about the files, got {type(media).__name__}"
            )
        self.book = book
        self.at = instant(at)
        self.provider = provider
        self.wire_format = wire_format
        self.media = media
        self.url = url
        self.allow_unknown = allow_unknown

    def with_options(self, **options: Any) -> Intake:
        """Returns a copy with some of its options replaced."""
        changed = Intake.__new__(Intake)
        for name in self.__slots__:
            setattr(changed, name, getattr(self, name))
        for name, value in options.items():
            setattr(changed, name, value)
        return changed

    def read(self, payload: Mapping[str, Any]) -> tuple[VideoRequest, CapabilityMatrix]:
        """Reads a payload: identifies the model, applies the API's defaults and derives the action.

        Returns:
            The request, and the capability matrix of its wire format.

        Raises:
            WireFormatError: the payload does not have the shape of its wire format.
            CapabilityError: the model is missing or unknown to the wire format.
            KlingPricingError: `media` or `url` cannot be used.
        """
        book, name = self.book, self.wire_format
        endpoint = None if self.url is None else book.endpoint(self.url)
        if endpoint is not None and not endpoint.submissions:
            _refuse_path_without_price(str(self.url), endpoint, book)
        format_assumed = False
        if name is None:
            if endpoint is not None:
                name, format_assumed = format_at(endpoint, payload, book, self.provider)
            else:
                name, format_assumed = choose_format(payload, book, self.provider)
        wire = wire_format_named(name)
        matrix = book.matrices[name]
        parsed = wire.parse(payload, allow_unknown=self.allow_unknown)
        fields = parsed.fields
        written: Any = parsed.facts.get("model")
        named = matrix.names.get(written)
        if named is None or (endpoint is not None and matrix.ignored_fields):
            written, named = _model(parsed, endpoint, matrix, book)
        model, implied_facts = named
        capabilities = matrix.models[model]
        facts = capabilities.with_defaults(parsed.facts, implied_facts)
        facts["duration_stated"], facts["resolution_stated"] = "duration_s" in fields, "resolution" in fields
        if facts["shots_length_s"]:
            facts["shots_excess_s"] = facts["shots_length_s"] - (facts["duration_s"] or 0)
        known_media = _add_media(facts, parsed.media, self.media) if parsed.media else ()
        if (known_media or facts["elements"]) and "reference" not in parsed.facts:
            facts["reference"] = counts_as_reference(facts)
        implied_by = None
        if (
            facts["action"] == capabilities.general_action
            and len(implied := capabilities.imply_action(facts)) == 1
        ):
            facts["action"], implied_by = implied[0]
        unknown: tuple[str, ...] = ()
        completions: tuple[Mapping[str, Any], ...] = ()
        readings: tuple[Mapping[str, Any], ...] = ()
        if capabilities.open_facts:
            unknown = capabilities.unknown(facts, fields, known_media, book.priced_facts)
        possible: Mapping[str, tuple[Any, ...]] = _NO_VALUES
        if parsed.open:  # these are open even where the API has a default
            possible = _possible(parsed.open, capabilities.defaults)
            contested = [fact for fact in possible if parsed.facts.get(fact) is None]
            unknown = tuple(dict.fromkeys((*contested, *unknown)))
            readings = fillings(facts, contested, [possible[fact] for fact in contested])
        if unknown:
            completions = capabilities.completions(facts, unknown, possible)
        request = VideoRequest(
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
            format_assumed,
            readings,
            endpoint,
        )
        return request, matrix

    def table(self, request: VideoRequest, provider: str | None = None) -> PriceTable:
        """Returns a provider's price table that is in force; by default, the billing provider's.

        Raises:
            PriceNotFoundError: the provider cannot be determined or has no table in force, or the table does
                not price the request's wire format or, at this instant, its model.
        """
        provider = provider or self.provider
        if provider is None:
            provider = provider_of(request, self.book, None)
            if provider is None:
                raise _no_provider(request, self.book)
        model = request.facts["model"]
        table = self.book.table(provider, self.at, model)
        if request.wire_format not in table.priced_formats:
            raise _format_not_priced(table, request, self.book)
        validity = table.model_periods.get(model)
        if validity is not None and not validity.holds(self.at):
            raise _out_of_period(table, model, validity, self.at)
        return table


@cache
def default_book() -> PriceBook:
    """Returns the price book that applies if none is given; see `default_price_book`.

    The loader is imported only here, because callers that pass a book do not need it.
    """
    from kling_pricing.tables.loading.book import default_price_book  # noqa: PLC0415

    return default_price_book()


def provider_of(request: VideoRequest, book: PriceBook, provider: str | None) -> str | None:
    """Returns the provider that bills a request; None if it cannot be determined.

    The result is the given provider, or else the provider at the endpoint's host, or else the only provider
    whose API uses the request's wire format.
    """
    if provider is not None:
        return provider
    if request.endpoint is not None and request.endpoint.provider is not None:
        return request.endpoint.provider
    speaking = book.providers.get(request.wire_format, ())
    return speaking[0] if len(speaking) == 1 else None


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


def _refuse_path_without_price(url: str, endpoint: Endpoint, book: PriceBook) -> None:
    """Refuses a URL whose path is listed as billed without a published price.

    Raises:
        PriceNotFoundError: the path is listed so, which holds whatever the payload looks like.
    """
    segments = tuple(provider_and_path(url, book.hosts)[1])
    for name in book.formats.get(endpoint.provider or "", ()):
        for paths in book.matrices[name].http.unpriced:
            if paths.pattern.matches(segments):
                raise PriceNotFoundError(
                    f"{endpoint.provider} bills for requests to {paths.pattern.text}, but their price is "
                    f"unknown: {paths.why}; ask the provider for the price",
                    provider=endpoint.provider,
                )


def _possible(
    values_of: Mapping[str, tuple[Any, ...]], defaults: Mapping[str, Any]
) -> dict[str, tuple[Any, ...]]:
    """Returns the distinct values that each open fact may have; the API's default replaces a missing value."""
    return {
        fact: tuple(dict.fromkeys(defaults.get(fact) if value is None else value for value in values))
        for fact, values in values_of.items()
    }


def _add_media(
    facts: Facts, media: Sequence[Medium], known: MediaLike | None
) -> tuple[tuple[Medium, MediaFacts], ...]:
    """Pairs each file with the caller's facts about it, and adds a video's length to the request's facts."""
    if not known:
        return tuple([(medium, UNKNOWN) for medium in media])
    pairs = tuple([(medium, facts_of(medium.url, known)) for medium in media])
    for medium, media_facts in pairs:
        if medium.kind == "video" and media_facts.length_s is not None:
            facts["video_length_s"] = media_facts.length_s
    return pairs


def _unknown_model(
    written: str | None, field: str, matrix: CapabilityMatrix, book: PriceBook
) -> CapabilityError:
    known, close = list(matrix.names), None
    if written is None:
        paths = [submission.path for submission in matrix.submissions if submission.model is not None]
        message = f"{field} is required; set it to one of: {', '.join(known)}"
        if paths and "model" in wire_format_named(matrix.wire_format).FIELD_NAMES:
            message += "; or pass the URL of the request, if its path has a default model"
        elif paths:
            message = (
                "this API takes the model from the path of the URL, but no URL with a model was given; "
                f"pass the URL of the request, which ends with one of: {', '.join(paths)}"
            )
            known = paths
        code = "model_required"
    elif (why := book.known_name(matrix, written)) is not None:
        message = f"{matrix.wire_format} has no model {shown(written)}: {why}"
        code = "unknown_model"
    else:
        message = f"unknown model {shown(written)}; known models: {', '.join(known)}"
        code = "unknown_model"
        close = written
    suggested = None if close is None else nearest(close, known)
    source = "; ".join(matrix.sources)
    return CapabilityError(
        message,
        violations=[Violation(code, field, reportable(written), known, message, source)],
        suggestions=[] if suggested is None else [{field: suggested}],
    )


def _out_of_period(table: PriceTable, model: str, validity: Validity, at: datetime) -> PriceNotFoundError:
    why = table.period_reasons.get(model)
    return PriceNotFoundError(
        f"{model} has no price at {at.isoformat()}: {table.id} prices it only "
        f"{period(validity)}{f', because {why}' if why else ''}; "
        "choose a time in that period, or add your own price table",
        provider=table.provider,
        model=model,
    )


def _format_not_priced(table: PriceTable, request: VideoRequest, book: PriceBook) -> PriceNotFoundError:
    name = request.wire_format
    tables = (other for other in book.tables_of(table.provider) if name in other.priced_formats)
    other = next(tables, None)
    if other is None:
        known = joined_with_or((*table.wire_formats, *table.also_prices))
        problem = (
            f"{table.id} does not price requests in wire format {name}, because the table does not say how "
            f"they are billed; it prices only requests in {known}"
        )
    else:
        problem = (
            f"{table.id}, the table for that time, has no price for requests in wire format {name}; "
            f"{other.id} has prices for them and applies {period(other)}; choose a time in that period, or "
            "add your own price table"
        )
    return PriceNotFoundError(problem, provider=table.provider, model=request.facts["model"])


def _no_provider(request: VideoRequest, book: PriceBook) -> PriceNotFoundError:
    model, wire_format = request.facts["model"], request.wire_format
    speaking = book.providers[wire_format]
    pricing = [
        name
        for name, tables in book.tables.items()
        if any(model in table.models and wire_format in table.priced_formats for table in tables)
    ]
    unpriced = [known for known in book.unpriced.values() if wire_format in known.wire_formats]
    if not speaking and len(unpriced) == 1:
        return book.without_prices(unpriced[0], model)
    if speaking:
        problem = f"several providers use wire format {wire_format} ({joined_with_and(speaking)})"
    else:
        problem = f"no provider with known prices uses wire format {wire_format}"
    if pricing:
        remedy = f"specify the provider whose prices apply ({model} is priced by {joined_with_and(pricing)})"
    else:
        remedy = f"no price table covers {model}; add your own table"
    return PriceNotFoundError(f"{problem}; {remedy}", model=model, priced_instead=pricing)
