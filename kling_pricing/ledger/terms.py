"""The terms of a quote that a reservation stores, and their form in the rows of both stores. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import format_decimal, from_nanos, nanos_up


class Terms(NamedTuple):
    """The terms of a quote. The fields have the names of the columns in both stores.

    Attributes:
        model: the canonical name of the model.
        resolution: the billed resolution.
        tier: the price tier.
        quantity: the billed quantity.
        unit: the unit of the quantity.
        currency: the ISO 4217 code of the amounts' currency.
        expected: the quote, rounded up to a whole nano; for a range, its maximum.
        minimum: the minimum of a range, rounded up to a whole nano; None: the quote is exact, or schema version
            1 wrote the reservation.
        list_total: under a contract, the quote at the published prices; None: there is no contract, or schema
            version 1 wrote the reservation.
        price_table: the id of the price table.
        table_digest: the digest of the price table's file.
        statement_unit: the unit in which the provider's statement counts; None: the currency.
        unit_value: the value of one statement unit, in the currency.
        pack_units: the value of one unit by kind of pack, in the currency; empty: the price table lists none,
            or schema version 1 wrote the reservation.
        account_currency: the currency of the account, for money without a currency; None: unknown.
        failed_tasks: how the provider bills a failed task: `refunded`, `charged` or `unconfirmed`.
    """

    model: str
    resolution: str
    tier: str
    quantity: Decimal
    unit: str
    currency: str
    expected: Decimal
    minimum: Decimal | None
    list_total: Decimal | None
    price_table: str
    table_digest: str
    statement_unit: str | None
    unit_value: Decimal | None
    pack_units: Mapping[str, Decimal]
    account_currency: str | None
    failed_tasks: str


SEALED_COLUMNS = (
    *("id", "project", "key", "attempt", "provider", "wire_format"),
    *Terms._fields,
    *("reserved", "labels", "changes", "fingerprint", "created_at"),
)
"""The columns of a reservation that never change, in every version. Its column `seal` holds their digest."""

SEALED_IF_GIVEN = "account"
"""A further column that never changes. The digest includes it only if it has a value.

Reservations of earlier versions have no account, and keep their seals.
"""

SEALED_OBSERVATION_COLUMNS = (
    *("provider", "task_id", "state", "charge", "duration_s", "model", "facts", "seen_at"),
)
"""The columns of an observation that never change. Its column `seal` holds their digest."""

_QUANTITY, _EXPECTED, _MINIMUM, _LIST_TOTAL, _UNIT_VALUE, _PACK_UNITS = (
    Terms._fields.index(name)
    for name in ("quantity", "expected", "minimum", "list_total", "unit_value", "pack_units")
)


def written_terms(terms: Terms) -> list[str | int | None]:
    """Returns the column values in the order of `Terms`: amounts in nanos, other numbers as text."""
    values: list[Any] = [*terms]
    values[_QUANTITY] = str(terms.quantity)
    values[_EXPECTED] = nanos_up(terms.expected)
    values[_MINIMUM] = None if terms.minimum is None else nanos_up(terms.minimum)
    values[_LIST_TOTAL] = None if terms.list_total is None else nanos_up(terms.list_total)
    values[_UNIT_VALUE] = None if terms.unit_value is None else format_decimal(terms.unit_value)
    values[_PACK_UNITS] = _written_units(terms.pack_units) if terms.pack_units else None
    return values


def read_terms(row: Mapping[str, Any]) -> Terms:
    """Returns the terms in the row of a reservation, read by column name."""
    values = [row[name] for name in Terms._fields]
    values[_QUANTITY] = Decimal(values[_QUANTITY])
    values[_EXPECTED] = from_nanos(values[_EXPECTED])
    minimum, list_total, unit_value = values[_MINIMUM], values[_LIST_TOTAL], values[_UNIT_VALUE]
    values[_MINIMUM] = None if minimum is None else from_nanos(minimum)
    values[_LIST_TOTAL] = None if list_total is None else from_nanos(list_total)
    values[_UNIT_VALUE] = None if unit_value is None else Decimal(unit_value)
    values[_PACK_UNITS] = _read_units(values[_PACK_UNITS])
    return Terms._make(values)


def _written_units(units: Mapping[str, Decimal]) -> str:
    """Returns the values of units as a JSON object; equal values give equal text."""
    texts = {name: format_decimal(value) for name, value in units.items()}
    return json.dumps(texts, sort_keys=True, separators=(",", ":"))


def _read_units(written: str | Mapping[str, str] | None) -> dict[str, Decimal]:
    """Returns the values of units from a JSON object, which the server's driver has parsed already."""
    texts = json.loads(written) if isinstance(written, str) else written or {}
    return {name: Decimal(value) for name, value in texts.items()}


_NOT_SENT = {"table_digest", "minimum", "pack_units", "account_currency"}

TERMS = tuple(name for name in Terms._fields if name not in _NOT_SENT)
"""The terms in a line from `Ledger.sent`, where they form one field because many reservations share them."""

TERMS_SEPARATOR = "\x17"
"""Separates the terms in such a line."""
