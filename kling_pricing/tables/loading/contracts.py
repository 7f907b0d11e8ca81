"""Loads contracts: a discount on a published table, the customer's own rates, or another unit value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise

from kling_pricing.display import did_you_mean
from kling_pricing.errors import TableProblems
from kling_pricing.money import divide
from kling_pricing.strict_yaml import Path, YamlDocument, checked
from kling_pricing.tables.loading.files import ContractFile
from kling_pricing.tables.loading.parts import (
    OwnUnit,
    cells,
    check_period,
    check_zeros,
    own_unit_rate,
    table_id,
    table_notes,
    table_sources,
)
from kling_pricing.tables.price_table import PriceTable, period
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.tables.rates import Cell, Contract, Rate


def load_contracts(
    overlays: Iterable[tuple[str, YamlDocument, bytes]],
    published: Mapping[str, tuple[PriceTable, ...]],
    unpriced: Mapping[str, UnpricedProvider],
) -> dict[str, tuple[PriceTable, ...]]:
    """Loads the contracts from the files that extend a published table.

    Args:
        overlays: folder, document and bytes of each file with the key `extends`.
        published: provider -> its published tables.
        unpriced: the providers without published prices; their files may extend a table of another provider.

    Returns:
        provider -> its contracts, oldest first.

    Raises:
        TableError: a contract extends an unknown table, sets the rate of a cell that the published table does
            not price, or is in force at the same time as another contract for the same provider.
    """
    tables = {table.id: table for provided in published.values() for table in provided}
    contracts: dict[str, list[tuple[PriceTable, YamlDocument]]] = {}
    problems = TableProblems()
    for folder, document, data in overlays:
        with problems.collected():
            entry = checked(document, ContractFile)
            table = _contract(entry, document, data, tables, unpriced.get(folder), folder)
            contracts.setdefault(table.provider, []).append((table, document))
    in_order = {}
    for provider, loaded in contracts.items():
        with problems.collected():
            in_order[provider] = _in_order(loaded)
    problems.raise_first()
    return in_order


def _contract(
    entry: ContractFile,
    document: YamlDocument,
    data: bytes,
    tables: Mapping[str, PriceTable],
    unpriced: UnpricedProvider | None,
    folder: str,
) -> PriceTable:
    base = tables.get(entry.extends)
    if base is None:
        problem = f"no published table {entry.extends!r}; {did_you_mean(entry.extends, list(tables))}"
        raise document.error(("extends",), problem)
    adopted = base.provider != folder and unpriced is not None
    if unpriced is not None and adopted:
        base = _adopted(base, unpriced, document)
    if base.provider != folder:
        problem = (
            f"is a price table for {base.provider}, so this file is a contract with {base.provider}; "
            f"if you have such a contract, move the file to prices/{base.provider}/; if {folder} bills you, "
            f"write a table for {folder} with `kling-pricing tables new {folder}`"
        )
        raise document.error(("extends",), problem)
    problems = TableProblems()
    if entry.discount is not None and entry.discount >= 1:
        problem = "must be a fraction below 1; write ten percent as 0.1"
        problems.append(document.error(("discount",), problem))
    if entry.unit_value is not None and base.own_unit is None:
        problem = f"{base.id} has no unit of its own; give a discount or rates"
        problems.append(document.error(("unit_value",), problem))
    amounts: dict[Path, Decimal] = {("rates", *cell): price for cell, price in cells(entry.rates)}
    if entry.unit_value is not None:
        amounts["unit_value",] = entry.unit_value
    with problems.collected():
        check_zeros(amounts, document, free=entry.free)
    changes = entry.discount, entry.unit_value, entry.account_currency
    if changes == (None, None, None) and not (entry.rates or entry.units or entry.allow_paths or adopted):
        problem = "changes nothing; give a discount, a unit_value, units, rates or account_currency"
        problems.append(document.error((), problem))
    valid_from, valid_until = entry.valid_from or base.valid_from, entry.valid_until or base.valid_until
    with problems.collected():
        check_period(valid_from, valid_until, document)
    if (base.valid_from and valid_from and valid_from < base.valid_from) or (
        base.valid_until and (valid_until is None or valid_until > base.valid_until)
    ):
        problem = (
            f"is outside the period of {base.id} ({period(base)}); write a separate contract for each table"
        )
        problems.append(document.error(("valid_until" if entry.valid_until else "valid_from",), problem))
    units = _units(entry, base, document, problems)
    rates = _rates(entry, base, units, document, problems)
    problems.raise_first()
    return replace(
        base,
        id=table_id(document),
        digest=sha256(data).hexdigest(),
        valid_from=valid_from,
        valid_until=valid_until,
        sources=table_sources(entry.sources),
        rates=rates,
        units=units,
        account_currencies={"": entry.account_currency} if entry.account_currency else base.account_currencies,
        notes=(*base.notes, *table_notes(entry.notes)),
        contract=Contract(
            list_rates=dict(base.rates),
            discount=entry.discount or Decimal(0),
            own_cells=frozenset(cell for cell, _ in cells(entry.rates)),
        ),
        allow_paths=(*base.allow_paths, *entry.allow_paths),
    )


def _adopted(base: PriceTable, provider: UnpricedProvider, document: YamlDocument) -> PriceTable:
    """Returns the table of another provider as a table of a provider without published prices."""
    wire_formats = tuple(name for name in provider.wire_formats if name in base.priced_formats)
    if not wire_formats:
        problem = (
            f"{base.id} does not price requests in {' or '.join(provider.wire_formats)}, which "
            f"{provider.provider} accepts; extend a table that prices them"
        )
        raise document.error(("extends",), problem)
    return replace(
        base, provider=provider.provider, hosts=provider.hosts, wire_formats=wire_formats, also_prices=()
    )


def _rates(
    entry: ContractFile,
    base: PriceTable,
    units: Mapping[str, Decimal],
    document: YamlDocument,
    problems: TableProblems,
) -> dict[Cell, Rate]:
    """Returns the published rates at the customer's unit values, and the customer's own rates."""
    rates, own = dict(base.rates), dict(cells(entry.rates))
    for cell, price in own.items():
        if cell not in base.rates:
            problem = f"{base.id} has no price for {cell} that a contract could replace; remove this rate"
            problems.append(document.error(("rates", *cell), problem))
        elif base.rates[cell].own_unit is None:
            rates[cell] = Rate(cell, price, f"{cell}, contract price")
    for cell, rate in base.rates.items():
        in_pack = rate.own_unit != base.own_unit
        value_path: Path = ("units", str(rate.own_unit)) if in_pack else ("unit_value",)
        changed = rate.own_unit in entry.units if in_pack else entry.unit_value is not None
        if rate.own_unit is None or rate.own_units is None or not (changed or cell in own):
            continue
        if in_pack:
            value: Decimal | None = units[rate.own_unit]
        else:
            value = _unit_value(base) if entry.unit_value is None else entry.unit_value
        if value is None:
            problem = f"all rates of {base.id} are 0, so the value of its unit is unknown; add a unit_value"
            problems.append(document.error(("rates", *cell), problem))
            continue
        shown = f"{rate.own_unit} unit" if in_pack else rate.own_unit
        unit = OwnUnit(rate.own_unit, shown, value)
        try:
            rates[cell] = own_unit_rate(cell, own.get(cell, rate.own_units), unit, base.currency)
        except ValueError as error:
            problems.append(document.error(value_path if changed else ("rates",), str(error)))
    return rates


def _units(
    entry: ContractFile, base: PriceTable, document: YamlDocument, problems: TableProblems
) -> dict[str, Decimal]:
    """Returns the values of the units of packs: `unit_value` is also that of packs with the rates' unit."""
    published = _unit_value(base)
    for kind in entry.units:
        if kind not in base.units:
            problem = f"{base.id} has no unit of this kind; {did_you_mean(kind, list(base.units))}"
            problems.append(document.error(("units", kind), problem))
        elif base.units[kind] == published:
            problem = "is the unit of the published rates; give the price as unit_value"
            problems.append(document.error(("units", kind), problem))
    values = dict(base.units)
    if entry.unit_value is not None:
        values = {kind: entry.unit_value if value == published else value for kind, value in values.items()}
    return values | entry.units


def _unit_value(base: PriceTable) -> Decimal | None:
    """Returns the published value of one unit of the rates, which rates imply; None if all of them are 0."""
    in_units = (rate for rate in base.rates.values() if rate.own_unit == base.own_unit)
    rate = next((rate for rate in in_units if rate.own_units), None)
    return None if rate is None else divide(rate.unit_price, rate.own_units or Decimal(1))


def _in_order(loaded: list[tuple[PriceTable, YamlDocument]]) -> tuple[PriceTable, ...]:
    ordered = sorted(
        loaded, key=lambda entry: "" if entry[0].valid_from is None else entry[0].valid_from.isoformat()
    )
    for (earlier, _), (later, document) in pairwise(ordered):
        if later.valid_from is None or earlier.valid_until is None or earlier.valid_until > later.valid_from:
            problem = f"overlaps {earlier.id}; end one of the contracts before the other starts"
            raise document.error((), problem)
    return tuple(table for table, _ in ordered)
