"""A customer's own prices over a published table: a discount, prices of their own, or a unit's own value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise

from kling_pricing.display import did_you_mean
from kling_pricing.money import divide
from kling_pricing.strict_yaml import YamlDocument, checked
from kling_pricing.tables.loading.files import ContractFile
from kling_pricing.tables.loading.parts import (
    cells,
    check_period,
    own_unit_rate,
    table_id,
    table_notes,
    table_sources,
)
from kling_pricing.tables.price_table import PriceTable, period
from kling_pricing.tables.rates import Cell, Contract, Rate


def load_contracts(
    overlays: Iterable[tuple[str, YamlDocument, bytes]], published: Mapping[str, tuple[PriceTable, ...]]
) -> dict[str, tuple[PriceTable, ...]]:
    """Turns overlay files into tables.

    Args:
        overlays: folder, document and bytes of each file that `extends` another.
        published: provider -> the published tables.

    Returns:
        provider -> contracts, oldest first.

    Raises:
        TableError: an overlay extends nothing that is published, prices what the published table does not, or
            is in force together with another of the same provider.
    """
    tables = {table.id: table for each in published.values() for table in each}
    contracts: dict[str, list[tuple[PriceTable, YamlDocument]]] = {}
    for folder, document, data in overlays:
        table = _contract(checked(document, ContractFile), document, data, folder, tables)
        contracts.setdefault(table.provider, []).append((table, document))
    return {provider: _in_order(each) for provider, each in contracts.items()}


def _contract(
    entry: ContractFile, document: YamlDocument, data: bytes, folder: str, tables: Mapping[str, PriceTable]
) -> PriceTable:
    base = tables.get(entry.extends)
    if base is None:
        hint = did_you_mean(entry.extends, tables)
        raise document.error(("extends",), f"no published table {entry.extends!r}; {hint}")
    if base.provider != folder:
        raise document.error(("extends",), f"is of {base.provider}; put this file into prices/{base.provider}/")
    if entry.discount is not None and entry.discount >= 1:
        raise document.error(("discount",), "is a part of one, below 1; ten percent is 0.1")
    if entry.unit_value is not None and base.own_unit is None:
        raise document.error(("unit_value",), f"{base.id} is not priced in units; give a discount or rates")
    if entry.discount is None and entry.unit_value is None and not entry.rates:
        raise document.error((), "changes nothing; give a discount, a unit_value or rates")
    valid_from, valid_until = entry.valid_from or base.valid_from, entry.valid_until or base.valid_until
    check_period(valid_from, valid_until, document)
    if (base.valid_from and valid_from and valid_from < base.valid_from) or (
        base.valid_until and (valid_until is None or valid_until > base.valid_until)
    ):
        problem = f"reaches beyond {base.id}, in force {period(base)}; extend the other table as well"
        raise document.error(("valid_until" if entry.valid_until else "valid_from",), problem)
    return replace(
        base,
        id=table_id(document),
        digest=sha256(data).hexdigest(),
        valid_from=valid_from,
        valid_until=valid_until,
        sources=table_sources(entry.sources),
        rates=_checked_rates(entry, base, document),
        notes=(*base.notes, *table_notes(entry.notes)),
        contract=Contract(
            list_rates=dict(base.rates),
            discount=entry.discount or Decimal(0),
            own_cells=frozenset(cell for cell, _ in cells(entry.rates)),
        ),
    )


def _checked_rates(entry: ContractFile, base: PriceTable, document: YamlDocument) -> dict[Cell, Rate]:
    try:
        return _rates(entry, base, document)
    except ValueError as error:
        raise document.error(("rates",) if entry.unit_value is None else ("unit_value",), str(error)) from None


def _rates(entry: ContractFile, base: PriceTable, document: YamlDocument) -> dict[Cell, Rate]:
    rates = dict(base.rates)
    if entry.unit_value is not None and base.own_unit is not None:
        for cell, rate in base.rates.items():
            if rate.own_units is not None:
                rates[cell] = own_unit_rate(
                    cell, rate.own_units, base.own_unit, entry.unit_value, base.currency
                )
    for cell, price in cells(entry.rates):
        if cell not in base.rates:
            problem = f"{base.id} publishes no price for {cell}, so a contract cannot change it; remove it"
            raise document.error(("rates", *cell), problem)
        if base.own_unit is None:
            rates[cell] = Rate(cell, price, f"{cell}, contract price")
        else:
            value = entry.unit_value or _unit_value(base)
            rates[cell] = own_unit_rate(cell, price, base.own_unit, value, base.currency)
    return rates


def _unit_value(base: PriceTable) -> Decimal:
    """What one unit costs at the list: any rate tells."""
    rate = next(each for each in base.rates.values() if each.own_units)
    return divide(rate.unit_price, rate.own_units or Decimal(1))


def _in_order(loaded: list[tuple[PriceTable, YamlDocument]]) -> tuple[PriceTable, ...]:
    ordered = sorted(
        loaded, key=lambda each: "" if each[0].valid_from is None else each[0].valid_from.isoformat()
    )
    for (earlier, _), (later, document) in pairwise(ordered):
        if later.valid_from is None or earlier.valid_until is None or earlier.valid_until > later.valid_from:
            problem = f"is in force together with {earlier.id}; give one of them an end before the other begins"
            raise document.error((), problem)
    return tuple(table for table, _ in ordered)
