"""The notes of a quote: assumed defaults, facts about its table, and other readings of its payload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kling_pricing.display import shown, with_article
from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.findings import Note
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.pricing import price
from kling_pricing.strict_json import snapshot
from kling_pricing.tables.capabilities import Rule
from kling_pricing.tables.examination import examination_notes
from kling_pricing.tables.price_book import OtherDefault
from kling_pricing.tables.price_table import MAX_BILLS, STALE_AFTER, NotesOfPeriod, PriceTable
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest


class OtherReadings(NamedTuple):
    """The wire formats of the provider in which a payload would have other defaults.

    Attributes:
        defaults: the defaults that differ, of facts that the payload does not state.
        payload: a copy of the payload, because the caller may change his own before the notes are written.
        media: a copy of the caller's facts about files.
    """

    defaults: Sequence[OtherDefault]
    payload: Mapping[str, Any]
    media: MediaLike | None


def other_readings(
    payload: Mapping[str, Any], request: VideoRequest, table: PriceTable, intake: Intake
) -> OtherReadings | None:
    """Returns the other readings of a payload whose wire format is assumed; None if there are none."""
    differing = intake.book.other_defaults.get((table.provider, request.wire_format, request.model), ())
    stated, priced_facts = request.stated_fields, table.priced_facts
    defaults = []
    for entry in differing:
        if entry.fact not in stated and entry.fact in priced_facts:
            defaults.append(entry)  # noqa: PERF401 (usually there are none)
    if not defaults:
        return None
    return OtherReadings(defaults, snapshot(payload), intake.media and snapshot(intake.media))


def quote_notes(
    request: VideoRequest,
    table: PriceTable,
    readings: OtherReadings | None,
    intake: Intake,
    unsure: list[Rule] | None,
) -> tuple[Note, ...]:
    """Returns the notes on a quote.

    They are the assumed defaults, then the examination's notes, the notes on other readings and newer lists,
    and the table's notes.

    Args:
        request: the request.
        table: its price table.
        readings: the other readings of its payload; None if there are none.
        intake: the intake that read it.
        unsure: the rules that it may break; None: not known.
    """
    stated, defaults, counting = request.stated_fields, request.defaults, table.counting_facts
    notes = []
    if "model" not in stated and request.names_model:
        message = (
            f"{request.field('model')} is not specified; the default for this path is assumed: {request.model}"
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
        notes.append(Note("implied_action", f"because of {decisive}, this is {action} request"))
    notes += examination_notes(intake.book.matrices[request.wire_format], request, intake.at, unsure)
    if readings is not None:
        notes += _other_readings(readings, request, table, intake)
    if table.newer_list is not None:
        notes += _newer_list(table.newer_list, request, intake)
    return (*notes, *_table_notes(table, intake.at))


def _counts(fact: str, request: VideoRequest, table: PriceTable) -> bool:
    """Returns whether a fact determines the number of units in this request."""
    return any(fact in quantity.facts for quantity in table.choose_quantity(request.facts))


def _other_readings(
    readings: OtherReadings, request: VideoRequest, table: PriceTable, intake: Intake
) -> list[Note]:
    """Returns a note for each setting whose default differs in another wire format of the provider."""
    notes = []
    for other, fact, default in readings.defaults:
        wire = wire_format_named(other)
        if wire.FIELDS.keys() >= {*request.stated_fields.values()}:
            ours, theirs = request.field(fact), wire.FIELD_NAMES.get(fact, fact)
            amount = ""
            with suppress(WireFormatError, CapabilityError):
                reader = intake.with_options(wire_format=other, media=readings.media)
                reading, _ = reader.read(readings.payload)
                amount = _amount(table, reading)
            price_of_it = f"and the price would be {amount}" if amount else "which may change the price"
            notes.append(
                Note(
                    "other_reading",
                    f"the request was read as wire format {request.wire_format}, but in {other}, {theirs} "
                    f"defaults to {shown(default)}, {price_of_it}; specify the wire format, or set {ours}",
                )
            )
    return notes


def _newer_list(provider: str, request: VideoRequest, intake: Intake) -> list[Note]:
    """Returns a note on the price of a request in the same company's newer list, if that list is in force."""
    try:
        table = intake.book.table(provider, intake.at)
    except PriceNotFoundError:
        return []
    if request.open_facts or table.model_periods:
        return [_newer_list_note(table, request, intake)]
    place = request.wire_format, table.deciding_facts(request.facts)
    note = table.comparing_notes.get(place)
    if note is None:
        note = _newer_list_note(table, request, intake)
        if len(table.comparing_notes) < MAX_BILLS:
            table.comparing_notes[place] = note
    return [note]


def _newer_list_note(table: PriceTable, request: VideoRequest, intake: Intake) -> Note:
    try:
        quoted = price(intake.table(request, table.provider), request)
    except PriceNotFoundError:
        gives = "has no price"
    else:
        gives = f"gives {quoted.shown_total()} {table.currency}"
    return Note(
        "newer_list_elsewhere",
        f"the company that published these prices has a newer price list, {table.provider}, which {gives} for "
        f"this request ({table.id})",
    )


def _table_notes(table: PriceTable, at: datetime) -> tuple[Note, ...]:
    """Returns the notes that every quote from a table has at an instant."""
    age = at - table.checked
    for since, until, notes in table.recent_notes:
        if since <= age < until:
            return notes
    dates = [] if table.known_from is None else [table.known_from]
    changes = [since - table.checked for since in (*dates, *(since for since, _ in table.dated_notes))]
    changes += [STALE_AFTER + timedelta.resolution, timedelta(age.days), timedelta(age.days + 1)]
    notes = tuple(_new_table_notes(table, at))
    table.recent_notes[:] = [
        NotesOfPeriod(
            max(change for change in changes if change <= age),
            min(change for change in changes if change > age),
            notes,
        )
    ]
    return notes


def _new_table_notes(table: PriceTable, at: datetime) -> Iterator[Note]:
    yield from table.lasting_notes
    if table.known_from is not None and at < table.known_from:
        yield Note(
            "before_known_prices",
            f"the prices in {table.id} are known only from {table.known_from:%Y-%m-%d} onward; "
            "earlier prices may have differed",
        )
    for since, note in table.dated_notes:
        if since <= at:
            yield note
    if at > table.fresh_until:
        yield Note(
            "stale_table",
            f"{table.id} is based on a copy dated {table.checked:%Y-%m-%d}, {(at - table.checked).days} days "
            "before the date of this quote; check that its prices are still valid",
        )


def _amount(table: PriceTable, request: VideoRequest) -> str:
    """Formats the price of a request by a table for a note; empty: the table has none."""
    try:
        quoted = price(table, request)
    except PriceNotFoundError:
        return ""
    return f"{quoted.shown_total()} {quoted.currency}"
