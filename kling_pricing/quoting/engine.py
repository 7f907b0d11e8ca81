"""The engine: the exact price of a request with the reason, and whether the API would accept the request.

Pure: with `at` given it reads no clock. It opens no connection and changes none of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Violation
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.notes import other_readings, quote_notes
from kling_pricing.quoting.pricing import price
from kling_pricing.quoting.quote import LazyNotes, Quote
from kling_pricing.quoting.suggestions import nearest_valid
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.capabilities import Rule
from kling_pricing.tables.examination import examine
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest


def quote(
    request: RequestLike,
    *,
    provider: str | None = None,
    wire_format: str | None = None,
    at: datetime | None = None,
    book: PriceBook | None = None,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
) -> Quote:
    """Returns the exact price of a request before it is submitted, with the reason for every number.

    Args:
        request: the payload, as a mapping or as JSON text or bytes; it is not changed.
        provider: the provider that bills; by default, the provider at the host of `url`, or else the provider
            whose API uses the wire format.
        wire_format: the API that the payload is written for; by default, derived from `url`, or else from the
            payload.
        at: the instant whose prices apply, with a time zone; by default, now.
        book: the tables to use; by default, the bundled ones and those in `KLING_PRICING_TABLES`.
        media: URL -> facts about the file at that URL (`size_bytes`, `type`, `length_s`), which are checked
            against the API's limits. Nothing is downloaded; a missing fact becomes a note.
        allow_unknown: ignore fields that the API does not document instead of refusing them.
        url: the endpoint that receives the payload. Its path determines the wire format and its host the
            provider, unless those are given. Nothing is sent to the endpoint, and its host may be unknown.

    Raises:
        WireFormatError: the payload cannot be read.
        CapabilityError: the API would refuse the request; the error carries every violation, and suggestions.
        PriceNotFoundError: the request is valid, but no price is published for it.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used.
    """
    intake = Intake(provider, wire_format, at, book, media, allow_unknown, url)
    return quote_payload(read_payload(request), intake)


def quote_payload(payload: Mapping[str, Any], intake: Intake) -> Quote:
    """Reads, checks and prices a payload; raises as `quote` does."""
    request, matrix = intake.read(payload)
    broken, unsure = examine(matrix, request, intake.at)
    if broken:
        raise CapabilityError(
            "; ".join(violation.message for violation in broken),
            violations=broken,
            suggestions=nearest_valid(payload, request, intake, is_priced=_price_test(request, intake)),
        )
    return quote_valid(payload, request, intake, unsure)


def quote_valid(
    payload: Mapping[str, Any], request: VideoRequest, intake: Intake, unsure: list[Rule] | None = None
) -> Quote:
    """Prices a valid request.

    Args:
        payload: the payload.
        request: the request that the payload was read as.
        intake: the intake that read the request.
        unsure: the rules that the request may break, from `examine`; None: not known.

    Raises:
        PriceNotFoundError: no price is published for it.
    """
    table = intake.table(request)
    readings = other_readings(payload, request, table, intake) if request.format_assumed else None
    return price(table, request, LazyNotes(quote_notes, (request, table, readings, intake, unsure)))


def _price_test(request: VideoRequest, intake: Intake) -> Callable[[VideoRequest], bool] | None:
    """Returns a function that checks whether a similar request has a price; None if its model has none."""
    try:
        table = intake.table(request)
    except PriceNotFoundError:
        return None
    if request.facts["model"] not in table.models:
        return None

    def is_priced(other: VideoRequest) -> bool:
        try:
            price(table, other)
        except PriceNotFoundError:
            return False
        return True

    return is_priced


def check(
    request: RequestLike,
    *,
    provider: str | None = None,
    wire_format: str | None = None,
    at: datetime | None = None,
    book: PriceBook | None = None,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
) -> list[Violation]:
    """Returns every reason why the API would refuse a request; the list is empty if the API would accept it.

    Takes the same arguments as `quote`.
    A valid request may still have no published price; `quote` reports that.

    Raises:
        PriceNotFoundError: `provider` is unknown, or has no table for that instant.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used, or the payload is not a JSON object.
    """
    intake = Intake(provider, wire_format, at, book, media, allow_unknown, url)
    return check_payload(read_payload(request), intake)


def check_payload(payload: Mapping[str, Any], intake: Intake) -> list[Violation]:
    """Reads and checks a payload; raises as `check` does."""
    if intake.provider is not None:
        intake.book.table(intake.provider, intake.at)
    try:
        read, matrix = intake.read(payload)
    except (CapabilityError, WireFormatError) as error:
        if not error.violations:
            raise
        return list(error.violations)
    return examine(matrix, read, intake.at)[0]  # `violations` would be one more call
