"""What published tables and contracts are both made of: from the parts of a file to the parts of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from kling_pricing.findings import Note
from kling_pricing.money import MAX_DECIMALS, format_decimal, multiply, round_money
from kling_pricing.strict_yaml import YamlDocument
from kling_pricing.tables.http_rules import HttpRules, Idempotency, RefusedAnswers
from kling_pricing.tables.loading.files import HttpEntry, NoteEntry, SourceEntry, UnitEntry
from kling_pricing.tables.rates import Cell, Rate, TableSource


def table_id(document: YamlDocument) -> str:
    """Folder and file name without its ending: `<provider>/<date>`."""
    folder, name = document.name.split("/")[-2:]
    return f"{folder}/{name.removesuffix('.yaml')}"


def table_sources(entries: Iterable[SourceEntry]) -> tuple[TableSource, ...]:
    """Where a table was published."""
    return tuple(TableSource(each.ref, each.checked, each.authority) for each in entries)


def table_notes(entries: Iterable[NoteEntry]) -> tuple[tuple[datetime | None, Note], ...]:
    """The notes of its quotes, each with the instant from which it applies."""
    return tuple((each.since, Note(each.code, each.message)) for each in entries)


def cells(rates: Mapping[str, Mapping[str, Mapping[str, Decimal]]]) -> Iterator[tuple[Cell, Decimal]]:
    """Every cell of a file's rates with its price."""
    for model, resolutions in rates.items():
        for resolution, tiers in resolutions.items():
            for tier, price in tiers.items():
                yield Cell(model, resolution, tier), price


def make_rate(cell: Cell, price: Decimal, unit: UnitEntry | None, currency: str) -> Rate:
    """The rate of a cell; a price in the provider's own unit becomes money, exactly.

    Raises:
        ValueError: that has more decimals than a price may have.
    """
    if unit is None:
        return Rate(cell, price, str(cell))
    return own_unit_rate(cell, price, unit.name, unit.value, currency)


def own_unit_rate(cell: Cell, price: Decimal, name: str, value: Decimal, currency: str) -> Rate:
    """The rate of a cell that costs `price` units, each worth `value`.

    Raises:
        ValueError: that has more decimals than a price may have.
    """
    amount = multiply(price, value)
    if amount != round_money(amount):
        raise ValueError(
            f"{format_decimal(price)} {name}s at {format_decimal(value)} make {format_decimal(amount)} {currency} ({cell}), "
            f"of which at most {MAX_DECIMALS} decimals are kept; give them fewer decimals"
        )
    return Rate(
        cell, amount, f"{cell}, {format_decimal(price)} {name}s at {format_decimal(value)} {currency}", price
    )


def check_period(valid_from: datetime | None, valid_until: datetime | None, document: YamlDocument) -> None:
    """Refuses a period that ends before it begins.

    Raises:
        TableError: it does.
    """
    if valid_from and valid_until and valid_from >= valid_until:
        raise document.error(("valid_until",), "ends before it begins; valid_until must be after valid_from")


def http_rules(entry: HttpEntry) -> HttpRules:
    """What an API does over HTTP."""
    key = entry.idempotency
    return HttpRules(
        Idempotency(key.header, key.hours, key.source) if key else None,
        entry.own_id.field if entry.own_id else None,
        tuple(
            RefusedAnswers(each.status, tuple(each.unless), each.code, each.source) for each in entry.refused
        ),
        entry.forms,
        tuple(each.path for each in entry.billed_below),
        entry.error,
    )
