"""The notes of a quote: assumed defaults, facts about its table, and other readings of its payload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from kling_pricing.display import shown, with_article
from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Note
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.pricing import price
from kling_pricing.tables.price_book import OtherDefault
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.request import VideoRequest


def quote_notes(
    request: VideoRequest, table: PriceTable, examination: Iterable[Note], at: datetime
) -> tuple[Note, ...]:
    """Returns the notes on a quote: assumed defaults, then the examination's notes, then the table's notes."""
    stated, defaults, counting = request.stated_fields, request.defaults, table.counting_facts
    notes = []
    if "model" not in stated and request.names_model:
        message = (
            f"{request.field('model')} is not specified; the default of this path is assumed: {request.model}"
        )
        notes.append(Note("assumed_model", message))
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
        message = (
            f"the prices in {table.id} are known from {table.known_from:%Y-%m-%d}; "
            "earlier prices may have differed"
        )
        notes.append(Note("before_known_prices", message))
    for since, note in table.dated_notes:
        if since <= at:
            notes.append(note)
    if at > table.fresh_until:
        notes.append(_stale_note(table.id, table.checked, (at - table.checked).days))
    return tuple(notes)


def _counts(fact: str, request: VideoRequest, table: PriceTable) -> bool:
    """Returns whether a fact determines the number of units in this request."""
    return any(fact in quantity.facts for quantity in table.choose_quantity(request.facts))


def other_readings(
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


def newer_list(provider: str, request: VideoRequest, intake: Intake) -> list[Note]:
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
    gives = f"gives {amount}" if amount else "has no price"
    return Note(
        "newer_list_elsewhere",
        f"the company that published these prices has a newer list, {provider}, which {gives} for this request "
        f"({table})",
    )


@lru_cache(maxsize=1024)
def _stale_note(table: str, checked: date, days: int) -> Note:
    return Note(
        "stale_table",
        f"{table} is based on a copy dated {checked:%Y-%m-%d}, {days} days before the quoted time; "
        "check that its prices are still valid",
    )


def _amount(table: PriceTable, request: VideoRequest) -> str:
    """Formats the price of a request by a table for a note; empty: the table has none."""
    try:
        quoted = price(table, request)
    except PriceNotFoundError:
        return ""
    return f"{quoted.shown_total()} {quoted.currency}"
