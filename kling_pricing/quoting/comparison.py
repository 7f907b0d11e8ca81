"""What the same job would cost in other resolutions, with or without audio, of other models, elsewhere.

Pure, like quoting: the payload stays in the caller's wire format, each variant is a payload of that format, and
each is read, checked and priced like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from kling_pricing.errors import PriceNotFoundError
from kling_pricing.quoting.engine import quote
from kling_pricing.quoting.intake import read_request
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.variants import ReadOptions, Variant, vary, with_settings
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.examination import violations
from kling_pricing.tables.price_table import PriceBook, PriceTable
from kling_pricing.tables.rates import Validity
from kling_pricing.windows import instant
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest

_VARIED = ("resolution", "audio")
_KEPT = ("duration_s",)
"""What stays as it is even where another model has another default."""
_TOLD = (*_VARIED, *_KEPT, "action")
"""Facts of which a difference is told, whether it was asked for or another model brings it."""


class Option(NamedTuple):
    """One way to have the job done.

    Attributes:
        changes: fact -> its new value, the model as the wire names it; empty for the request itself. What
            another model brings by itself (another action, a soundtrack) is among them.
        provider: who would bill.
        model: the model as the wire names it.
        resolution: None when nobody says.
        audio: None when nobody says.
        quote: what it costs; None when it is not available.
        why_not: why it is not available; empty when it is.
    """

    changes: Mapping[str, Any]
    provider: str
    model: str
    resolution: str | None
    audio: bool | None
    quote: Quote | None
    why_not: str


class _Offer(NamedTuple):
    """A variant, what is different in it, and why the API would refuse it; empty: it would not."""

    variant: Variant
    changes: Mapping[str, Any]
    refused: str


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
) -> list[Option]:
    """Says what the same job costs across resolutions, audio on and off, models and providers.

    Takes the same arguments as `quote`; `provider` is the request's own, all others are asked too.
    Variants that the wire format cannot say are left out, and models that make something else than a video.

    Returns:
        The request itself and each variant at each provider that knows its model, and at the request's own:
        what is available first, the cheapest maximum first, by currency (the own provider's first; amounts of
        two currencies are never compared); then what is not available, with the reason.

    Raises:
        WireFormatError: the payload cannot be read.
        CapabilityError: the model is missing or unknown.
        PriceNotFoundError: the provider named is unknown.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used.
    """
    if book is None:
        from kling_pricing.tables.loading.book import default_price_book  # noqa: PLC0415 (reading YAML is slow)

        book = default_price_book()
    when = instant(at)
    payload = read_payload(request)
    read, matrix = read_request(
        payload, book, wire_format, provider, media, allow_unknown=allow_unknown, url=url
    )
    own = own_provider(read, book, provider)
    if own is not None and own not in book.tables:
        book.table(own, when)  # raises, and names the providers there are
    reading = ReadOptions(book, read.wire_format, media, allow_unknown, url)
    reasons = "; ".join(violation.message for violation in violations(matrix, read, when))
    itself = _Offer(Variant(payload, read, {}), {}, reasons)
    options = []
    for offer in (itself, *_offers(itself.variant, reading, when)):
        model = offer.variant.request.facts["model"]
        for name in book.tables:
            if name != own and not _knows(book, name, model, when):
                continue
            as_given = offer is itself and name == own  # then with the notes that `quote` would give
            asked = (provider, wire_format) if as_given else (name, read.wire_format)
            options.append(_option(offer, name, when, reading, asked=asked))
    return sorted(options, key=_order(book, own, when))


def own_provider(request: VideoRequest, book: PriceBook, provider: str | None) -> str | None:
    """Who would bill the request as it is; None when several or none could."""
    if provider is None and request.endpoint is not None:
        provider = request.endpoint.provider
    if provider is not None:
        return provider
    speaking = book.providers.get(request.wire_format, ())
    return speaking[0] if len(speaking) == 1 else None


def _knows(book: PriceBook, provider: str, model: str, when: datetime) -> bool:
    """Returns whether a provider's tables in force price a model; without any, its other tables count."""
    tables = (*book.tables[provider], *book.contracts.get(provider, ()))
    in_force = [table for table in tables if _is_in_force(table, when)]
    return any(model in table.models for table in in_force or tables)


def _is_retired(book: PriceBook, model: str, when: datetime) -> bool:
    """Returns whether tables of another time price a model, but none that is in force."""
    pricing = [table for tables in book.tables.values() for table in tables if model in table.models]
    return bool(pricing) and not any(_is_in_force(table, when) for table in pricing)


def _is_in_force(table: PriceTable, when: datetime) -> bool:
    return Validity(table.valid_from, table.valid_until).holds(when)


def _option(
    offer: _Offer, provider: str, when: datetime, reading: ReadOptions, *, asked: tuple[str | None, str | None]
) -> Option:
    quoted, why_not = None, offer.refused
    if not why_not:
        try:
            quoted = quote(
                offer.variant.payload,
                provider=asked[0],
                wire_format=asked[1],
                at=when,
                book=reading.book,
                media=reading.media,
                allow_unknown=reading.allow_unknown,
                url=reading.url,
            )
        except PriceNotFoundError as error:
            instead = f"; priced instead: {'; '.join(error.priced_instead)}"
            why_not = str(error).removesuffix(instead)  # the other rows say what is priced
    read = offer.variant.request
    facts = read.facts
    return Option(offer.changes, provider, read.model, facts["resolution"], facts["audio"], quoted, why_not)


def _offers(itself: Variant, reading: ReadOptions, when: datetime) -> Iterator[_Offer]:
    """Every other way to say the request, those that change nothing but the wording left out."""
    payload, request = itself.payload, itself.request
    matrix = reading.book.matrices[request.wire_format]
    facts: Mapping[str, Any] = request.facts
    general_action = matrix.models[request.facts["model"]].general_action
    seen = {_key(request)}
    for name in dict.fromkeys((request.model, *matrix.names)):
        canonical, _ = matrix.find(name) or (name, {})
        capabilities = matrix.models[canonical]
        if capabilities.general_action != general_action:  # it makes something else
            continue
        if name != request.model and _is_retired(reading.book, canonical, when):
            continue
        before = vary(payload, {} if name == request.model else {"model": name}, reading)
        if before is None:
            continue
        for resolution, audio in product(*_values(capabilities, before.request)):
            wanted = {"resolution": resolution, "audio": audio, **{fact: facts[fact] for fact in _KEPT}}
            found = with_settings(payload, before, wanted, reading)
            if found is None or _key(found.request) in seen:
                continue
            seen.add(_key(found.request))
            made: Mapping[str, Any] = found.request.facts
            told = {fact: made[fact] for fact in _TOLD if made[fact] != facts[fact]}
            reasons = "; ".join(violation.message for violation in violations(matrix, found.request, when))
            yield _Offer(found, {**found.changes, **told}, reasons)


def _values(capabilities: ModelCapabilities, request: VideoRequest) -> tuple[list[Any], list[Any]]:
    """The resolutions and the audio settings of a model; what it does not let one choose stays as it is."""
    facts: Mapping[str, Any] = request.facts
    limit = capabilities.limit("resolution", facts)
    resolutions = [value for value in limit.edges() if limit.holds(value)] if limit is not None else []
    audio = [False, True] if "audio" in capabilities.fields else []
    return resolutions or [facts["resolution"]], audio or [facts["audio"]]


def _key(request: VideoRequest) -> frozenset[tuple[str, Any]]:
    """What makes two payloads the same request, however they are written."""
    return frozenset(request.facts.items())


def _order(book: PriceBook, own: str | None, when: datetime) -> Any:
    """Sorts what is available by currency and price, and the rest behind it."""
    own_currency = _currency(book, own, when)

    def key(option: Option) -> tuple[bool, bool, str, Decimal, Decimal, bool]:
        quoted = option.quote
        elsewhere = option.provider != own
        if quoted is None:
            return True, False, "", Decimal(0), Decimal(0), elsewhere
        currency = quoted.currency
        return False, currency != own_currency, currency, quoted.maximum, quoted.minimum, elsewhere

    return key


def _currency(book: PriceBook, provider: str | None, when: datetime) -> str:
    if provider is None:
        return ""
    try:
        return book.table(provider, when).currency
    except PriceNotFoundError:
        return book.tables[provider][-1].currency
