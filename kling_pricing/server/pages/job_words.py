"""The life of a job in words, and its quote explained, from what the ledger and the price tables keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from kling_pricing.ledger.journal import Entry, Observation
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import counted
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.rates import Rate

_EVENTS: Mapping[str, str] = {
    "reserve": "The guard reserved the money.",
    "dispatch": "The payload was handed out to be sent.",
    "bind": "The provider created the task.",
    "doubt": "The outcome became unknown.",
    "settle": "The job was settled.",
    "release": "The money was released.",
    "expire": "The reservation expired before it was sent.",
    "record": "Spend outside the guard was recorded.",
    "alert": "An alert was raised.",
    "waive": "A budget in observe mode would have refused the job.",
    "cover": "An allowance covered part of the price.",
}
"""Kind of a journal entry -> the event in words."""


class BalanceMove(NamedTuple):
    """The change of one balance.

    Attributes:
        budget: the budget.
        labels: the labels of its bucket.
        held: the change of the held amount.
        spent: the change of the spent amount.
        currency: the currency of both.
    """

    budget: str
    labels: Mapping[str, str]
    held: Decimal
    spent: Decimal
    currency: str | None


class LifeEvent(NamedTuple):
    """One event in the life of a job.

    Attributes:
        at: when it happened, UTC.
        text: the event in words.
        detail: the reason, the basis or the task; None: there is none.
        moves: the balances that it changed.
    """

    at: datetime
    text: str
    detail: str | None
    moves: tuple[BalanceMove, ...]


def life_of(entries: Iterable[Entry], may_see: Iterable[str] | None) -> list[LifeEvent]:
    """Returns the events in the life of a job, the oldest first.

    Args:
        entries: the journal entries about the job.
        may_see: the names of the budgets that the reader may see; None: all.
    """
    own = None if may_see is None else {*may_see}
    events = []
    for (at, kind), group in groupby(entries, lambda entry: (entry.at, entry.kind)):
        several = list(group)
        if kind == "alert" and own is not None and not any(entry.budget in own for entry in several):
            continue
        moves = tuple(
            BalanceMove(entry.budget, entry.labels, entry.held, entry.spent, entry.currency)
            for entry in several
            if entry.budget is not None and (entry.held or entry.spent) and (own is None or entry.budget in own)
        )
        detail = next((entry.detail for entry in several if entry.detail), None)
        shown = None if kind in {"reserve", "dispatch", "alert"} else detail
        events.append(LifeEvent(at, _EVENTS.get(kind, kind), shown, moves))
    return events


class QuoteWords(NamedTuple):
    """The quote of a job, explained.

    Attributes:
        formula: the quantity, the unit price and their product; None: the price table is not loaded any more.
        table: the id of the price table.
        is_loaded: whether exactly this table is loaded.
        sources: where its prices were published.
        description: the cell of the price table in words.
    """

    formula: str | None
    table: str
    is_loaded: bool
    sources: tuple[str, ...]
    description: str


def quote_words(job: Reservation, book: PriceBook) -> QuoteWords:
    """Explains the quote of a job from the price table that it names."""
    terms = job.terms
    tables = [table for table in book.tables.get(job.provider, ()) if table.id == terms.price_table]
    table = tables[0] if tables else None
    is_loaded = table is not None and table.digest == terms.table_digest
    rate: Rate | None = None
    if table is not None:
        rate = table.rate_at.get((terms.model, terms.resolution, terms.tier))
    formula = None
    if rate is not None and rate.unit_price * terms.quantity == terms.expected:
        formula = (
            f"{counted(terms.quantity, terms.unit)} x {format_decimal(rate.unit_price)} "
            f"{terms.currency} = {format_decimal(terms.expected)} {terms.currency}"
        )
    return QuoteWords(
        formula,
        terms.price_table,
        is_loaded,
        tuple(source.ref for source in table.sources) if table is not None else (),
        rate.description if rate is not None else f"{terms.model} {terms.resolution} {terms.tier}",
    )


def answer_words(seen: Observation) -> str:
    """Says what one answer of the provider stated about the task."""
    parts = [seen.state or "no state"]
    if seen.charge is not None:
        charged = " and ".join(f"{format_decimal(part.amount)} {part.unit}" for part in seen.charge.parts)
        parts.append(f"charge {charged}" if charged else "a charge that cannot be read")
    if seen.duration_s is not None:
        parts.append(f"{format_decimal(seen.duration_s)} s")
    if seen.model is not None:
        parts.append(f"model {seen.model}")
    parts += [f"{name} {value}" for name, value in seen.facts.items()]
    return ", ".join(parts)
