"""Compares the prices of a job across resolutions, audio settings, models and providers.

Pure, like all of quoting. Each variant is a payload in the caller's wire format, and is read, checked and
priced like any other payload.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from kling_pricing.display import did_you_mean, html_table, json_text, shown
from kling_pricing.errors import KlingPricingError, PriceNotFoundError
from kling_pricing.quoting.engine import quote_valid
from kling_pricing.quoting.intake import Intake, provider_of
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.translation import Translation, translated
from kling_pricing.quoting.variants import Variant, Variations
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.tables.examination import violations
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Validity
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest

_VARIED = ("resolution", "audio")
_REPORTED = (*_VARIED, "duration_s", "action")
"""The facts whose changes are reported, whether requested or implied by another model."""


class Option(NamedTuple):
    """One way to run the job.

    Attributes:
        changes: fact -> new value, with the model's name on the wire; empty for the original request. Includes
            changes that another model implies, such as another action or a soundtrack.
        provider: the provider that would bill.
        model: the model's name on the wire.
        resolution: the resolution; None if it is not specified.
        audio: whether audio is generated; None if it is not specified.
        quote: the price; None if the option is not available.
        why_not: the reason why the option is not available; empty if it is available.
        wire_format: the wire format of the request: another one if only that has a price at the provider.
    """

    changes: Mapping[str, Any]
    provider: str
    model: str
    resolution: str | None
    audio: bool | None
    quote: Quote | None
    why_not: str
    wire_format: str = ""

    def __repr__(self) -> str:
        return f"<Option {self._price()} at {self.provider}: {self._changed()}>"

    def as_dict(self, *, decimals: bool = False) -> dict[str, Any]:
        """Returns the option as data; with `decimals`, amounts are `Decimal`s, otherwise text."""
        quoted = None if self.quote is None else self.quote.as_dict(decimals=decimals)
        return {**self._asdict(), "changes": dict(self.changes), "quote": quoted}

    def as_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json_text(self.as_dict())

    def _repr_html_(self) -> str:
        """Returns the option as a table for a notebook."""
        rows = [("price", self._price()), ("provider", self.provider), ("model", self.model)]
        return html_table(self._changed(), rows, note=self.why_not)

    def _price(self) -> str:
        return "not available" if self.quote is None else f"{self.quote.shown_total()} {self.quote.currency}"

    def _changed(self) -> str:
        changes = ", ".join(f"{fact} = {shown(value)}" for fact, value in self.changes.items())
        return changes or "the original request"


class _Candidate(NamedTuple):
    """A variant, its changes and the result of its examination; `refusal` is empty if the API accepts it."""

    payload: Mapping[str, Any]
    request: VideoRequest
    changes: Mapping[str, Any]
    refusal: str


def compare(
    request: RequestLike,
    *,
    provider: str | None = None,
    wire_format: str | None = None,
    at: datetime | None = None,
    book: PriceBook | None = None,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
    models: Sequence[str] = (),
    durations: Sequence[int] = (),
) -> list[Option]:
    """Prices the same job across resolutions, audio settings, models and providers.

    Takes the same arguments as `quote`; `provider` is the request's own provider.
    Omits variants that the wire format cannot express, and models with a different kind of output.
    If a provider's prices do not apply to the request's wire format, the job is priced in the words of the
    provider's own API, if they can say it.

    Args:
        request: the payload.
        provider: as for `quote`.
        wire_format: as for `quote`.
        at: as for `quote`.
        book: as for `quote`.
        media: as for `quote`.
        allow_unknown: as for `quote`.
        url: as for `quote`.
        models: the models of the variants, by any API's names for them; empty: all models.
        durations: the lengths of the variants in seconds; empty: the length of the request.

    Returns:
        The original request and each variant, at the request's own provider and at each provider that offers
        the model. Available options come first, grouped by currency and starting with the own provider's
        currency. Within a currency, they are sorted by maximum, lowest first. Amounts in different currencies
        are never compared. Unavailable options follow, each with the reason.

    Raises:
        WireFormatError: the payload cannot be read.
        CapabilityError: the model is missing or unknown.
        PriceNotFoundError: `provider` is unknown.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used, or no API has one of the `models`.
    """
    intake = Intake(provider, wire_format, at, book, media, allow_unknown, url)
    payload = read_payload(request)
    read, matrix = intake.read(payload)
    book = intake.book
    own_provider = provider_of(read, book, provider)
    if own_provider is not None:
        book.tables_of(own_provider)  # raises if the provider is unknown
    variations = Variations(payload, read, intake)
    itself = _candidate(variations.original, {}, intake, matrix)
    names = dict.fromkeys((*book.tables, *([] if own_provider is None else [own_provider])))
    offerings = {
        name: _Provider(intake.with_options(provider=name), _models(book, name, intake.at)) for name in names
    }
    options = []
    wanted = _Wanted(_canonical(models, book), tuple(durations) or (read.facts["duration_s"],))
    for candidate in (itself, *_candidates(variations, intake, matrix, wanted)):
        model = candidate.request.facts["model"]
        # the note about an assumed wire format matters only at the own provider
        elsewhere = candidate._replace(request=replace(candidate.request, format_assumed=False))
        for name, offering in offerings.items():
            if name == own_provider:
                options.append(_option(candidate, name, offering))
            elif model in offering.models:
                options.append(_option(elsewhere, name, offering))
    return sorted(options, key=_order(intake, own_provider))


class _Provider(NamedTuple):
    """One provider of a comparison: the intake that prices by its tables, and the models that it offers."""

    intake: Intake
    models: frozenset[str]


class _Wanted(NamedTuple):
    """The variants that the caller wants: canonical names of models (empty: all), and lengths in seconds."""

    models: frozenset[str]
    durations: tuple[int | None, ...]


def _canonical(names: Sequence[str], book: PriceBook) -> frozenset[str]:
    """Returns the canonical names of models.

    Raises:
        KlingPricingError: no API has a model of this name.
    """
    known: dict[str, str] = {}
    for matrix in book.matrices.values():
        for name, (canonical, _) in matrix.names.items():
            known.setdefault(name.lower(), canonical)
            known.setdefault(canonical.lower(), canonical)
    for name in names:
        if name.lower() not in known:
            raise KlingPricingError(f"unknown model {shown(name)}; {did_you_mean(name, known)}")
    return frozenset(known[name.lower()] for name in names)


def _models(book: PriceBook, provider: str, at: datetime) -> frozenset[str]:
    """Returns the models that a provider's tables in force price; without any, its other tables count."""
    tables = book.tables_of(provider)
    in_force = [table for table in tables if _is_in_force(table, at)]
    return frozenset[str]().union(*(table.models for table in in_force or tables))


def _is_retired(book: PriceBook, model: str, at: datetime) -> bool:
    """Returns whether tables of another time price a model, but none that is in force."""
    pricing = [table for tables in book.tables.values() for table in tables if model in table.models]
    return bool(pricing) and not any(_is_in_force(table, at) for table in pricing)


def _is_in_force(table: PriceTable, at: datetime) -> bool:
    return Validity(table.valid_from, table.valid_until).holds(at)


def _option(candidate: _Candidate, provider: str, offering: _Provider) -> Option:
    payload, request, changes, why_not = candidate
    intake = offering.intake
    quote = None
    if not _prices_format(provider, request, intake):
        translation = translated(payload, request, provider, intake)
        if isinstance(translation, Translation):
            payload, request, intake = translation
            why_not = ""
        else:
            why_not = why_not or translation
    if not why_not:
        try:
            quote = quote_valid(payload, request, intake)
        except PriceNotFoundError as error:
            alternatives = f"; available prices: {', '.join(error.priced_instead)}"
            why_not = str(error).removesuffix(alternatives)  # the other rows show the available prices
    facts = request.facts
    return Option(
        *(changes, provider, request.model, facts["resolution"], facts["audio"], quote, why_not),
        wire_format=request.wire_format,
    )


def _prices_format(provider: str, request: VideoRequest, intake: Intake) -> bool:
    """Returns whether a provider prices the wire format of a request; also if it has no table then."""
    try:
        table = intake.book.table(provider, intake.at, request.facts["model"])
    except PriceNotFoundError:
        return True  # the reason is that there is no table
    return request.wire_format in table.priced_formats


def _candidate(
    variant: Variant, changes: Mapping[str, Any], intake: Intake, matrix: CapabilityMatrix
) -> _Candidate:
    refusal = "; ".join(violation.message for violation in violations(matrix, variant.request, intake.at))
    return _Candidate(variant.payload, variant.request, changes, refusal)


def _candidates(
    variations: Variations, intake: Intake, matrix: CapabilityMatrix, wanted_variants: _Wanted
) -> Iterator[_Candidate]:
    """Yields every variant whose content differs from the original request, not only its spelling."""
    request = variations.original.request
    facts: Mapping[str, Any] = request.facts
    general_action = matrix.models[request.facts["model"]].general_action
    seen = {_key(request)}
    for name in dict.fromkeys((request.model, *matrix.names)):
        canonical, _ = matrix.find(name) or (name, {})
        capabilities = matrix.models[canonical]
        if capabilities.general_action != general_action:  # the model has a different kind of output
            continue
        if wanted_variants.models and canonical not in wanted_variants.models:
            continue
        if name != request.model and _is_retired(intake.book, canonical, intake.at):
            continue
        base = variations.with_model(name)
        if base is None:
            continue
        values = _values(capabilities, base.request)
        for resolution, audio, duration_s in product(*values, wanted_variants.durations):
            wanted = {"resolution": resolution, "audio": audio, "duration_s": duration_s}
            variant = variations.with_settings(base, wanted)
            if variant is None or _key(variant.request) in seen:
                continue
            seen.add(_key(variant.request))
            new_facts: Mapping[str, Any] = variant.request.facts
            differences = {fact: new_facts[fact] for fact in _REPORTED if new_facts[fact] != facts[fact]}
            yield _candidate(variant, {**variant.changes, **differences}, intake, matrix)


def _values(capabilities: ModelCapabilities, request: VideoRequest) -> tuple[list[Any], list[Any]]:
    """Returns the resolutions and audio settings that a model offers; the current value if it offers none."""
    facts: Mapping[str, Any] = request.facts
    limit = capabilities.limit("resolution", facts)
    resolutions = [value for value in limit.edges() if limit.holds(value)] if limit is not None else []
    audio = [False, True] if "audio" in capabilities.fields else []
    return resolutions or [facts["resolution"]], audio or [facts["audio"]]


def _key(request: VideoRequest) -> frozenset[tuple[str, Any]]:
    """Returns a key that identifies a request regardless of how its payload is written."""
    return frozenset(request.facts.items())


def _order(intake: Intake, own_provider: str | None) -> Any:
    """Returns a sort key: available options by currency and price, then the unavailable ones."""
    own_currency = _currency(intake, own_provider)

    def key(option: Option) -> tuple[bool, bool, str, Decimal, Decimal, bool]:
        elsewhere = option.provider != own_provider
        if option.quote is None:
            return True, False, "", Decimal(0), Decimal(0), elsewhere
        currency = option.quote.currency
        return False, currency != own_currency, currency, option.quote.maximum, option.quote.minimum, elsewhere

    return key


def _currency(intake: Intake, provider: str | None) -> str:
    if provider is None:
        return ""
    try:
        return intake.book.table(provider, intake.at).currency
    except PriceNotFoundError:
        tables = intake.book.tables.get(provider)
        return tables[-1].currency if tables else ""
