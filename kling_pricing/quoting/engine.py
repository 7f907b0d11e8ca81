"""The engine: prices requests exactly, with reasons, and checks whether the API would accept them.

Pure: it opens no connections and does not modify its arguments. If `at` is given, it does not read the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kling_pricing.display import shown, with_article
from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Note, Violation
from kling_pricing.money import add, format_decimal, multiply
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote, counted
from kling_pricing.quoting.suggestions import nearest_valid
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.examination import examine, violations
from kling_pricing.tables.price_table import MAX_BILLS, OtherDefault, PriceBook, PriceTable
from kling_pricing.tables.rates import ANY, Bill, Cell, Contract, LineItem, Quantity, Rate
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest

_NO_UNITS, MAX_UNITS = Decimal(0), Decimal(10**6)
"""A quantity above `MAX_UNITS` is a mistake, whatever a table's limits say."""


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
    broken, notes = examine(matrix, request, intake.at)
    if broken:
        raise CapabilityError(
            "; ".join(violation.message for violation in broken),
            violations=broken,
            suggestions=nearest_valid(payload, request, intake, is_priced=_price_test(request, intake)),
        )
    return quote_valid(payload, request, notes, intake)


def quote_valid(
    payload: Mapping[str, Any], request: VideoRequest, notes: Iterable[Note], intake: Intake
) -> Quote:
    """Prices a valid request.

    Args:
        payload: the payload.
        request: the request that the payload was read as.
        notes: the notes from its examination.
        intake: the intake that read the request.

    Raises:
        PriceNotFoundError: no price is published for it.
    """
    table = intake.table(request)
    if request.format_assumed:
        place = table.provider, request.wire_format, request.model
        if other_defaults := intake.book.other_defaults.get(place):
            notes = [*notes, *_other_readings(payload, request, table, other_defaults, intake)]
    if table.newer_list is not None:
        notes = [*notes, *_newer_list(table.newer_list, request, intake)]
    return price(table, request, _notes(request, table, notes, intake.at))


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
        PriceNotFoundError: `provider` is unknown, or has no table in force.
        TableError: a table cannot be loaded.
        KlingPricingError: `at`, `media` or `url` cannot be used, or the payload is not a JSON object.
    """
    intake = Intake(provider, wire_format, at, book, media, allow_unknown, url)
    if provider is not None:
        intake.book.table(provider, intake.at)
    try:
        read, matrix = intake.read(read_payload(request))
    except (CapabilityError, WireFormatError) as error:
        if not error.violations:
            raise
        return list(error.violations)
    return violations(matrix, read, intake.at)


def price(table: PriceTable, request: VideoRequest, notes: tuple[Note, ...] = ()) -> Quote:
    """Prices a valid request with one table; the price is exactly unit price x quantity.

    Raises:
        PriceNotFoundError: the table has no rate for the request's model, resolution and tier; the rate for
            another combination is never used.
    """
    if not request.open_facts and len(tiers := table.choose_tier(request.facts)) == 1:
        rate, lines, total, list_total = _bill(table, request, request.facts, tiers[0])
        return Quote(request, table, rate, lines, total, total, list_total, notes)
    return _range(table, request, notes)


def _range(table: PriceTable, request: VideoRequest, notes: tuple[Note, ...]) -> Quote:
    """Prices a request for every combination of values that its unknown facts may have."""
    bills = [bill for facts in _completions(request) for bill in _bills(table, request, facts)]
    if not bills:
        verb = "is" if len(request.open_facts) == 1 else "are"
        raise _not_priced(
            table, request, f"{', '.join(request.open_facts)} {verb} unknown{_remedy(request.open_facts)}"
        )
    rate, lines, highest, list_total = max(bills, key=lambda bill: bill.total)
    lowest = min(bill.total for bill in bills)
    if lowest != highest:
        unknown = _deciding_fields(table, request)
        verb = "is" if len(unknown) == 1 else "are"
        note = Note(
            "range",
            f"the price depends on {', '.join(unknown)}, which {verb} unknown; the lines show the maximum",
        )
        notes = (*notes, note)
    return Quote(request, table, rate, lines, lowest, highest, list_total, notes)


def _remedy(unknown_facts: Iterable[str]) -> str:
    return "; pass the length of the video in `media`" if "video_length_s" in unknown_facts else ""


def _completions(request: VideoRequest) -> tuple[Mapping[str, Any], ...]:
    return request.completions if request.open_facts else (request.facts,)


def _bills(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any]) -> list[Bill]:
    """Returns the bill in each tier that the facts allow; several only if the deciding fact is unknown."""
    return [_bill(table, request, facts, tier) for tier in table.choose_tier(facts)]


def _deciding_fields(table: PriceTable, request: VideoRequest) -> list[str]:
    """Returns the fields that make a quote a range: their values, all else being equal, change the price."""
    amounts = [
        (facts, {bill.total for bill in _bills(table, request, facts)}) for facts in _completions(request)
    ]
    deciding = []
    for fact in request.open_facts:
        totals_by_others: dict[tuple[Any, ...], set[Decimal]] = {}
        for facts, totals in amounts:
            others = tuple([facts[other] for other in request.open_facts if other != fact])
            totals_by_others.setdefault(others, set()).update(totals)
        if any(len(totals) > 1 for totals in totals_by_others.values()):
            deciding.append(fact)
    if not deciding:
        tiers = dict.fromkeys(tier for facts, _ in amounts for tier in table.choose_tier(facts))
        return [*map(request.field, request.open_facts)] or [f"the tier ({' or '.join(tiers)})"]
    return [_open_field(request, fact) for fact in deciding]


def _open_field(request: VideoRequest, fact: str) -> str:
    values = dict.fromkeys(reading[fact] for reading in request.readings)
    readings = " or ".join(shown(value) for value in values)
    return f"{request.field(fact)} (read as {readings})" if len(values) > 1 else request.field(fact)


def _bill(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str) -> Bill:
    """Returns the bill for one tier, from the table's cache if possible.

    Tables have few rates and requests have few seconds, so the same bills recur.
    """
    (quantity,) = table.choose_quantity(facts)
    counted = facts[quantity.fact]
    if type(counted) is not int:  # unknown, or a video length to the millisecond
        return _new_bill(table, request, facts, tier, quantity)
    place = facts["model"], facts["resolution"], tier, quantity, counted
    bill = table.bills.get(place)
    if bill is None:
        bill = _new_bill(table, request, facts, tier, quantity)
        if len(table.bills) < MAX_BILLS:
            table.bills[place] = bill
    return bill


def _new_bill(
    table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str, quantity: Quantity
) -> Bill:
    rate = table.rate_at.get((facts["model"], facts["resolution"] or ANY, tier))
    if rate is None:
        cell = Cell(facts["model"], facts["resolution"] or ANY, tier)
        raise _not_priced(table, request, table.why_unpriced(cell) or f"it lists no rate for {cell}")
    if facts[quantity.fact] is None:
        raise _not_priced(
            table, request, f"{request.field(quantity.fact)} is unknown{_remedy([quantity.fact])}"
        )
    units = quantity.of(facts)
    if not _NO_UNITS < units <= MAX_UNITS:
        raise _not_priced(table, request, f"cannot bill {counted(units, quantity.unit)}")
    amount = multiply(rate.unit_price, units)
    line = LineItem(rate.description, units, quantity.unit, rate.unit_price, amount)
    if table.contract is None:
        return Bill(rate, (line,), amount, None)
    return _contract_bill(table.contract, rate, line)


def _contract_bill(contract: Contract, rate: Rate, line: LineItem) -> Bill:
    """Returns the bill with the contract's discount as a separate line."""
    list_total = contract.list_total(rate.cell, line.quantity)
    if not contract.discount_of(rate.cell):
        return Bill(rate, (line,), line.amount, list_total)
    off = contract.taken_off(rate.cell, line.amount).copy_negate()
    percent = format_decimal(contract.percent)
    discount = LineItem(f"contract discount of {percent}%", Decimal(1), "discount", off, off)
    return Bill(rate, (line, discount), add(line.amount, off), list_total)


def _not_priced(table: PriceTable, request: VideoRequest, why: str) -> PriceNotFoundError:
    facts = request.facts
    units = table.choose_quantity(facts)
    unit = units[0].unit if units else "unit"
    same_model = sorted(
        (cell for cell in table.rates if cell.model == facts["model"]),
        key=lambda cell: cell.resolution != facts["resolution"],
    )
    priced = [
        f"{cell} at {format_decimal(table.rates[cell].unit_price)} {table.currency} per {unit}"
        for cell in same_model
    ]
    models = ", ".join(sorted(table.models))
    alternatives = f"available prices: {', '.join(priced)}" if priced else f"priced models: {models}"
    return PriceNotFoundError(
        f"{table.id} has no price for this request: {why}; {alternatives}",
        provider=table.provider,
        model=facts["model"],
        priced_instead=priced,
    )


def _notes(
    request: VideoRequest, table: PriceTable, examination: Iterable[Note], at: datetime
) -> tuple[Note, ...]:
    """Returns the notes on a quote: assumed defaults, then the examination's notes, then the table's notes."""
    stated, defaults, counting = request.stated_fields, request.defaults, table.counting_facts
    notes = []
    for fact in table.priced_facts:
        if (
            fact not in stated
            and fact in defaults
            and fact != "action"  # the quote itself states the action
            and (fact not in counting or _counts(fact, request, table))
        ):
            message = (
                f"{request.field(fact)} is not specified; the API's default is assumed: {shown(defaults[fact])}"
            )
            notes.append(Note(f"assumed_{fact}", message))
    if request.implied_by is not None:
        decisive = request.field(request.implied_by)
        action = with_article(str(request.facts["action"]))
        notes.append(Note("implied_action", f"{decisive} makes this {action} request"))
    notes += examination
    notes += table.lasting_notes
    if table.known_from is not None and at < table.known_from:
        message = f"{table.id} is known from {table.known_from:%Y-%m-%d}; before that, prices may have differed"
        notes.append(Note("before_known_prices", message))
    for since, note in table.dated_notes:
        if since <= at:
            notes.append(note)
    if at > table.fresh_until:
        notes.append(_stale_note(table.id, table.checked, (at - table.checked).days))
    return tuple(notes)


def _counts(fact: str, request: VideoRequest, table: PriceTable) -> bool:
    """Returns whether a fact determines the number of units in this request."""
    return any(quantity.fact == fact for quantity in table.choose_quantity(request.facts))


def _other_readings(
    payload: Mapping[str, Any],
    request: VideoRequest,
    table: PriceTable,
    other_defaults: Iterable[OtherDefault],
    intake: Intake,
) -> list[Note]:
    """Returns a note for each setting whose default differs in another wire format of the provider."""
    notes = []
    for other, fact, default in other_defaults:
        if fact in request.stated_fields or fact not in table.priced_facts:
            continue
        wire = wire_format_named(other)
        if wire.FIELDS.keys() >= {*request.stated_fields.values()}:
            ours, theirs = request.field(fact), wire.FIELD_NAMES.get(fact, fact)
            amount = ""
            with suppress(WireFormatError, CapabilityError):
                reading, _ = intake.with_options(wire_format=other).read(payload)
                amount = _amount(table, reading)
            price_of_it = f"and the price would be {amount}" if amount else "which may change the price"
            notes.append(
                Note(
                    "other_reading",
                    f"the request was read as wire format {request.wire_format}, but in {other} the default of "
                    f"{theirs} is {shown(default)}, {price_of_it}; specify the wire format, or set {ours}",
                )
            )
    return notes


def _newer_list(provider: str, request: VideoRequest, intake: Intake) -> list[Note]:
    """Returns a note on the price of a request in the same company's newer list, if that list is in force."""
    try:
        table = intake.book.table(provider, intake.at)
    except PriceNotFoundError:
        return []
    amount = ""
    with suppress(PriceNotFoundError):
        amount = _amount(intake.table_of(provider, request), request)
    return [_newer_list_note(provider, table.id, amount)]


@lru_cache(maxsize=4096)  # the same amounts recur
def _newer_list_note(provider: str, table: str, amount: str) -> Note:
    charges = f"charges {amount} for this request" if amount else "has no price for this request"
    return Note("newer_list_elsewhere", f"{provider}, the newer list of the same company, {charges} ({table})")


@lru_cache(maxsize=1024)
def _stale_note(table: str, checked: date, days: int) -> Note:
    return Note(
        "stale_table",
        f"{table} was last compared with its source on {checked:%Y-%m-%d}, {days} days "
        "before the quoted time; check that its prices are still valid",
    )


def _amount(table: PriceTable, request: VideoRequest) -> str:
    """Formats the price of a request by a table for a note; empty: the table has none."""
    try:
        quoted = price(table, request)
    except PriceNotFoundError:
        return ""
    return f"{quoted.shown_total()} {quoted.currency}"
