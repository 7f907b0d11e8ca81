"""The engine: what a request costs, exactly and with the reason; and whether the API would accept it at all.

Pure: it reads no clock when `at` is given, opens no connection, and changes nothing it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from kling_pricing.display import shown
from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Note, Violation
from kling_pricing.money import add, format_decimal, multiply
from kling_pricing.quoting.intake import choose_table, read_request
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.suggestions import nearest_valid
from kling_pricing.strict_json import RequestLike
from kling_pricing.tables.examination import examine, violations
from kling_pricing.tables.price_table import MAX_BILLS, PriceBook, PriceTable
from kling_pricing.tables.rates import ANY, Bill, Cell, Contract, LineItem, Quantity, Rate
from kling_pricing.windows import instant
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest

_NO_UNITS, MAX_UNITS = Decimal(0), Decimal(10**6)
"""More units than this are a mistake, whatever a table's limits say."""


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
    """Says what a request will cost, exactly, before it is submitted.

    Args:
        request: the payload, as a mapping or as JSON text or bytes; it is not changed.
        provider: who bills; by default the provider whose API the wire format is.
        wire_format: the API the payload is written for; by default found from the payload.
        at: the instant to price at, with a time zone; by default now.
        book: the tables to use; by default the bundled ones and those of `KLING_PRICING_TABLES`.
        media: URL -> facts of the file there (`size_bytes`, `type`, `length_s`), checked against the API's
            limits; nothing is downloaded, and what is not known becomes a note.
        allow_unknown: ignore fields the API does not document, instead of refusing them.
        url: the endpoint that the payload is posted to; its path tells the wire format, its host the
            provider, where these are not given. Nothing is sent there, and it may be unknown.

    Raises:
        WireFormatError: the payload cannot be read.
        CapabilityError: the API would refuse the request; it has every violation, and suggestions.
        PriceNotFoundError: the request is valid, but nobody published its price.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used.
    """
    book = _default_book() if book is None else book
    when = instant(at)
    resolved, matrix = read_request(
        request, book, wire_format, provider, media, allow_unknown=allow_unknown, url=url
    )
    broken, found = examine(matrix, resolved, when)
    if broken:
        raise CapabilityError(
            "; ".join(violation.message for violation in broken),
            violations=broken,
            suggestions=nearest_valid(
                request,
                resolved,
                book,
                media=media,
                allow_unknown=allow_unknown,
                url=url,
                at=when,
                is_priced=_pricing(resolved, book, provider, when),
            ),
        )
    table = choose_table(resolved, book, provider, when)
    if resolved.format_assumed:
        found += _other_readings(resolved, table, book)
    return price(table, resolved, _notes(resolved, table, found, when))


def _pricing(
    request: VideoRequest, book: PriceBook, provider: str | None, when: datetime
) -> Callable[[VideoRequest], bool] | None:
    """Tells whether a request like this one has a price; None when no table prices any."""
    try:
        table = choose_table(request, book, provider, when)
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
    """Says every reason why the API would refuse a request; an empty list when it would accept it.

    Takes the same arguments as `quote`.
    A request can be valid and yet have no published price: that is for `quote` to say.

    Raises:
        PriceNotFoundError: the provider named is unknown or has no table in force.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used, or the payload is not a JSON object.
    """
    book = _default_book() if book is None else book
    when = instant(at)
    if provider is not None:
        book.table(provider, when)
    try:
        resolved, matrix = read_request(
            request, book, wire_format, provider, media, allow_unknown=allow_unknown, url=url
        )
    except (CapabilityError, WireFormatError) as error:
        if not error.violations:
            raise
        return list(error.violations)
    return violations(matrix, resolved, when)


def price(table: PriceTable, request: VideoRequest, notes: tuple[Note, ...] = ()) -> Quote:
    """Prices a valid request by one table: unit price x quantity, exactly.

    Raises:
        PriceNotFoundError: the table has no rate for the request's model, resolution and tier; a neighbour's
            rate is never used.
    """
    if not request.open_facts and len(tiers := table.choose_tier(request.facts)) == 1:
        rate, lines, total, list_total = _bill(table, request, request.facts, tiers[0])
        return Quote(request, table, rate, lines, total, total, list_total, notes)
    return _range(table, request, notes)


def _range(table: PriceTable, request: VideoRequest, notes: tuple[Note, ...]) -> Quote:
    """Prices a request in every way that what is not known allows."""
    found = [bill for facts in _completions(request) for bill in _bills(table, request, facts)]
    if not found:
        remedy = "; pass the length of the video in media" if "video_length_s" in request.open_facts else ""
        raise _not_priced(table, request, f"{', '.join(request.open_facts)} cannot be told{remedy}")
    rate, lines, highest, list_total = max(found, key=lambda bill: bill.total)
    lowest = min(bill.total for bill in found)
    if lowest != highest:
        unknown = _undecided(table, request)
        note = Note("range", f"{unknown} decides the price and is not known; the lines show the maximum")
        notes = (*notes, note)
    return Quote(request, table, rate, lines, lowest, highest, list_total, notes)


def _completions(request: VideoRequest) -> tuple[Mapping[str, Any], ...]:
    return request.completions if request.open_facts else (request.facts,)


def _bills(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any]) -> list[Bill]:
    """The bill in each tier that the facts allow: several only if the API cannot say what decides."""
    return [_bill(table, request, facts, tier) for tier in table.choose_tier(facts)]


def _undecided(table: PriceTable, request: VideoRequest) -> str:
    """What makes a quote a range: the fields whose values, all else equal, change the price."""
    amounts = [
        (facts, {bill.total for bill in _bills(table, request, facts)}) for facts in _completions(request)
    ]
    deciding = []
    for fact in request.open_facts:
        alike: dict[tuple[Any, ...], set[Decimal]] = {}
        for facts, found in amounts:
            others = tuple([facts[other] for other in request.open_facts if other != fact])
            alike.setdefault(others, set()).update(found)
        if any(len(found) > 1 for found in alike.values()):
            deciding.append(fact)
    if not deciding:
        tiers = dict.fromkeys(tier for facts, _ in amounts for tier in table.choose_tier(facts))
        return ", ".join(map(request.field, request.open_facts)) or f"the tier ({' or '.join(tiers)})"
    return ", ".join(_open_field(request, fact) for fact in deciding)


def _open_field(request: VideoRequest, fact: str) -> str:
    values = dict.fromkeys(reading[fact] for reading in request.readings)
    readings = " or ".join(shown(value) for value in values)
    return f"{request.field(fact)} (read as {readings})" if len(values) > 1 else request.field(fact)


def _bill(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str) -> Bill:
    """What is billed for facts of which everything that matters is known.

    A table has few cells and a request few seconds, so the same bills come again and again, and are kept.
    """
    (quantity,) = table.choose_quantity(facts)
    counted = facts[quantity.fact]
    if (
        type(counted) is not int or quantity.added or quantity.floor
    ):  # not known, or the length of a video, to the millisecond
        return _made_out(table, request, facts, tier, quantity)
    place = facts["model"], facts["resolution"], tier, quantity, counted
    bill = table.bills.get(place)
    if bill is None:
        bill = _made_out(table, request, facts, tier, quantity)
        if len(table.bills) < MAX_BILLS:
            table.bills[place] = bill
    return bill


def _made_out(
    table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str, quantity: Quantity
) -> Bill:
    rate = table.rate_at.get((facts["model"], facts["resolution"] or ANY, tier))
    if rate is None:
        cell = Cell(facts["model"], facts["resolution"] or ANY, tier)
        raise _not_priced(table, request, table.why_unpriced(cell) or f"it lists no rate for {cell}")
    for fact in quantity.facts:
        if facts[fact] is None:
            remedy = "; pass the length of the video in media" if fact == "video_length_s" else ""
            raise _not_priced(table, request, f"{request.field(fact)} is not known{remedy}")
    units = quantity.of(facts)
    if not _NO_UNITS < units <= MAX_UNITS:
        raise _not_priced(
            table, request, f"{format_decimal(units)} is no number of {quantity.unit}s that can be billed"
        )
    amount = multiply(rate.unit_price, units)
    line = LineItem(rate.description, units, quantity.unit, rate.unit_price, amount)
    if table.contract is None:
        return Bill(rate, (line,), amount, None)
    return _contract_bill(table.contract, rate, line)


def _contract_bill(contract: Contract, rate: Rate, line: LineItem) -> Bill:
    """The discount is a line of its own."""
    list_total = contract.list_total(rate.cell, line.quantity)
    if not contract.discount_of(rate.cell):
        return Bill(rate, (line,), line.amount, list_total)
    off = contract.taken_off(rate.cell, line.amount).copy_negate()
    percent = format_decimal(contract.percent)
    discount = LineItem(f"contract discount of {percent} %", Decimal(1), "discount", off, off)
    return Bill(rate, (line, discount), add(line.amount, off), list_total)


def _not_priced(table: PriceTable, request: VideoRequest, why: str) -> PriceNotFoundError:
    facts = request.facts
    units = table.choose_quantity(facts)
    unit = units[0].unit if units else "unit"
    each = f"per {unit}" if unit[0].isdigit() else f"a {unit}"
    alike = sorted(
        (cell for cell in table.rates if cell.model == facts["model"]),
        key=lambda cell: cell.resolution != facts["resolution"],
    )
    priced = [
        f"{cell} at {format_decimal(table.rates[cell].unit_price)} {table.currency} {each}" for cell in alike
    ]
    models = ", ".join(sorted(table.models))
    instead = f"priced instead: {'; '.join(priced)}" if priced else f"it prices: {models}"
    return PriceNotFoundError(
        f"{table.id} publishes no price for this request{request.assumption}: {why}; {instead}",
        provider=table.provider,
        model=facts["model"],
        priced_instead=priced,
    )


def _notes(request: VideoRequest, table: PriceTable, found: list[Note], when: datetime) -> tuple[Note, ...]:
    notes = _assumed(request, table)
    if request.implied_by is not None:
        decisive = request.field(request.implied_by)
        notes.append(Note("implied_action", f"{decisive} makes this a {request.facts['action']} request"))
    notes += found
    notes += table.lasting_notes
    for since, note in table.dated_notes:
        if since <= when:
            notes.append(note)
    if when > table.fresh_until:
        days = (when - table.checked).days
        notes.append(table.stale_notes.get(days) or table.stale_note(days))
    elif table.known_from is not None and when < table.known_from:
        notes.append(
            Note(
                "before_known",
                f"the prices of {table.id} are known from {table.known_from:%Y-%m-%d} on; "
                "check that they held before that day",
            )
        )
    return tuple(notes)


def _assumed(request: VideoRequest, table: PriceTable) -> list[Note]:
    """Notes for the defaults that count for the price."""
    defaults, said = request.defaults, request.stated_fields
    notes = []
    if "model" not in said and request.names_model:
        message = f"{request.field('model')} is not given; the default of this path assumed: {request.model}"
        notes.append(Note("assumed_model", message))
    for fact in table.priced_facts:
        if (
            fact not in said
            and fact in defaults
            and fact != "action"  # the quote itself says what is made
            and (fact not in table.counting_facts or _counts(fact, request, table))
        ):
            default = shown(defaults[fact])
            message = f"{request.field(fact)} is not given; the API's default assumed: {default}"
            notes.append(Note(f"assumed_{fact}", message))
    return notes


def _counts(fact: str, request: VideoRequest, table: PriceTable) -> bool:
    """Whether a fact counts the units of this request."""
    return any(fact in quantity.facts for quantity in table.choose_quantity(request.facts))


def _other_readings(request: VideoRequest, table: PriceTable, book: PriceBook) -> list[Note]:
    """Notes for what the same payload would mean, and perhaps cost, in another format of the provider."""
    notes = []
    for other, fact, default in book.other_defaults.get(
        (table.provider, request.wire_format, request.model), ()
    ):
        if fact in request.stated_fields or fact not in table.priced_facts:
            continue
        wire = wire_format_named(other)
        if wire.FIELDS.keys() >= {*request.stated_fields.values()}:
            ours, theirs = request.field(fact), wire.FIELD_NAMES.get(fact, fact)
            notes.append(
                Note(
                    "other_reading",
                    f"read as wire format {request.wire_format}; as {other}, {theirs} would be "
                    f"{shown(default)} by default, which may cost differently: "
                    f"name the wire format, or give {ours}",
                )
            )
    return notes


@cache
def _default_book() -> PriceBook:
    """Imports the loader only where it is needed: reading YAML costs more than all the rest of the library."""
    from kling_pricing.tables.loading.book import default_price_book  # noqa: PLC0415

    return default_price_book()
