"""Reads the YAML files of a price book, checks them against each other, and assembles the book.

`book` decides whether the files need to be read at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from itertools import chain, pairwise

from kling_pricing.display import did_you_mean
from kling_pricing.errors import TableError, TableProblems
from kling_pricing.strict_yaml import Path, YamlDocument, checked, load
from kling_pricing.tables.loading.contracts import load_contracts
from kling_pricing.tables.loading.coverage import check_coverage
from kling_pricing.tables.loading.files import CellsEntry, ContractFile, PriceFile, QuantityEntry
from kling_pricing.tables.loading.folders import TableFiles, table_files
from kling_pricing.tables.loading.matrices import load_matrix
from kling_pricing.tables.loading.parts import (
    OwnUnit,
    cells,
    check_filled,
    check_period,
    check_zeros,
    own_unit_rate,
    table_id,
    table_notes,
    table_sources,
)
from kling_pricing.tables.loading.unpriced import load_provider
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.tables.rates import Billing, Cell, Cells, Quantity, Rate, StatementUnit, Validity
from kling_pricing.tables.rules import Choice


def assembled_book(files: TableFiles) -> PriceBook:
    """Returns the price book of some files.

    Raises:
        TableError: a file is refused or cannot be read, or two files contradict each other. The error's
            `others` has all other problems in the files.
    """
    problems = TableProblems()
    matrices = {}
    for (kind, *_), file in files.items():
        if kind == "capabilities":
            with problems.collected():
                matrix = load_matrix(file)
                matrices[matrix.wire_format] = matrix
    is_complete = not problems  # without all matrices, an error about a wire format may be a consequence
    unpriced: dict[str, tuple[UnpricedProvider, YamlDocument]] = {}
    for (kind, *_), file in files.items():
        if kind == "providers" and is_complete:
            with problems.collected():
                loaded = load_provider(file, matrices)
                unpriced[loaded[0].provider] = loaded
    tables: dict[str, list[tuple[PriceTable, YamlDocument]]] = {}
    overlays: list[tuple[str, YamlDocument, bytes]] = []
    for path, file in files.items():
        if path[0] == "prices":
            with problems.collected():
                document = load(file.data, name=file.name)
                if isinstance(document.tree, dict) and "extends" in document.tree:
                    overlays.append((path[1], document, file.data))
                    continue
                table = _table(document, file.data, path[1], problems)
                if is_complete:
                    check_coverage(table, document, matrices)
                tables.setdefault(table.provider, []).append((table, document))
    published = {}
    for provider in sorted(tables):
        with problems.collected():
            published[provider] = _in_order(tables[provider])
    with problems.collected():
        _check_hosts([*tables.values(), *([entry] for entry in unpriced.values())])
    if not problems:  # otherwise, a provider may be missing only because its file is refused
        _check_newer_lists(tables, problems)
    gateways = {name: provider for name, (provider, _) in unpriced.items()}
    ids = {table.id for in_order in published.values() for table in in_order} if is_complete else set()
    if problems:  # otherwise, the table of a contract may be missing only because its file is refused
        for _, document, _ in [entry for entry in overlays if entry[1].tree["extends"] not in ids]:
            with problems.collected():
                checked(document, ContractFile)
        overlays = [entry for entry in overlays if entry[1].tree["extends"] in ids]
    contracts: dict[str, tuple[PriceTable, ...]]
    with problems.collected():
        contracts = load_contracts(overlays, published, gateways)
    problems.raise_first()
    for name in contracts.keys() - published.keys():  # the only prices of a provider that publishes none
        published[name] = contracts.pop(name)
    return PriceBook(published, matrices, contracts, gateways)


def with_own_capabilities(book: PriceBook, directory: str | os.PathLike[str]) -> PriceBook:
    """Returns the published tables with the capability and provider files of a folder, for a new table.

    The folder's price files are not read, because they may be incomplete.

    Raises:
        TableError: a file is refused, or the folder cannot be read.
    """
    problems = TableProblems()
    matrices, unpriced = dict(book.matrices), dict(book.unpriced)
    files = table_files(directory)
    for (kind, *_), file in files.items():
        if kind == "capabilities":
            with problems.collected():
                matrix = load_matrix(file)
                matrices[matrix.wire_format] = matrix
    problems.raise_first()
    for (kind, *_), file in files.items():
        if kind == "providers":
            with problems.collected():
                provider, _ = load_provider(file, matrices)
                unpriced[provider.provider] = provider
    problems.raise_first()
    return PriceBook(book.tables, matrices, {}, unpriced)


def _check_newer_lists(
    tables: Mapping[str, list[tuple[PriceTable, YamlDocument]]], problems: TableProblems
) -> None:
    for table, document in chain.from_iterable(tables.values()):
        if table.newer_list is not None and table.newer_list not in tables:
            remedy = did_you_mean(table.newer_list, sorted(tables))
            problems.append(document.error(("newer_list",), f"no provider {table.newer_list!r}; {remedy}"))


def _table(document: YamlDocument, data: bytes, folder: str, problems: TableProblems) -> PriceTable:
    """Returns a table; adds to `problems` those that leave the rest of the table readable.

    Raises:
        TableError: the file has a problem that makes further checks useless.
    """
    check_filled(document)
    entry = checked(document, PriceFile)
    if entry.provider != folder:
        raise document.error(("provider",), f"differs from the folder's name {folder!r}; make them the same")
    with problems.collected():
        check_period(entry.valid_from, entry.valid_until, document)
    if entry.known_from is not None and entry.valid_from is not None:
        problem = "applies only to a table whose valid_from is null; remove it"
        problems.append(document.error(("known_from",), problem))
    if entry.known_from and entry.valid_until and entry.known_from >= entry.valid_until:
        problem = "must be earlier than valid_until; correct one of the two"
        problems.append(document.error(("known_from",), problem))
    amounts: dict[Path, Decimal] = {("rates", *cell): price for cell, price in cells(entry.rates)}
    if entry.unit is not None:
        amounts["unit", "value"] = entry.unit.value
    with problems.collected():
        check_zeros(amounts, document, free=entry.free)
    problems += _problems_of_choices(entry, document)
    return PriceTable(
        provider=entry.provider,
        id=table_id(document),
        digest=sha256(data).hexdigest(),
        hosts=tuple(entry.hosts),
        wire_formats=tuple(entry.wire_formats),
        also_prices=tuple(entry.also_prices),
        currency=entry.currency,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        sources=table_sources(entry.sources),
        billing=_billing(entry),
        tiers=tuple(Choice(choice.tier, choice.when) for choice in entry.tiers),
        quantity=tuple(Choice(_quantity(choice), choice.when) for choice in entry.quantity),
        units=_units(entry, document, problems),
        rates=_rates(entry, document, problems),
        unpriced=_cells(entry.unpriced),
        unreached=_cells(entry.unreached),
        notes=table_notes(entry.notes),
        own_unit=entry.unit.name if entry.unit else None,
        account_currencies=_account_currencies(entry, document, problems),
        model_periods=_model_periods(entry, document, problems),
        period_reasons={model: period.why for model, period in entry.model_periods.items() if period.why},
        known_from=entry.known_from,
        newer_list=entry.newer_list,
        allow_paths=tuple(entry.allow_paths),
        unpriced_rest=entry.unpriced_rest,
    )


def _units(entry: PriceFile, document: YamlDocument, problems: TableProblems) -> dict[str, Decimal]:
    """Returns the values of the units of packs, none of which may contradict the unit of the rates."""
    unit = entry.unit
    if unit is not None and entry.units.get(unit.name, unit.value) != unit.value:
        problem = "differs from the value of `unit`; make the two values the same"
        problems.append(document.error(("units", unit.name), problem))
    for model, kind in entry.pack_of.items():
        if model not in entry.rates:
            problem = f"{model!r} has no rates; {did_you_mean(model, list(entry.rates))}"
            problems.append(document.error(("pack_of", model), problem))
        if kind not in entry.units:
            problem = f"`units` gives no value for units of kind {kind!r}; add one"
            problems.append(document.error(("pack_of", model), problem))
    return dict(entry.units)


def _account_currencies(entry: PriceFile, document: YamlDocument, problems: TableProblems) -> dict[str, str]:
    """Returns host -> the currency of the accounts there; an empty host stands for all."""
    given = entry.account_currency
    if not isinstance(given, dict):
        return {} if given is None else {"": given}
    for host in given:
        if host not in entry.hosts:
            remedy = did_you_mean(host, entry.hosts) if entry.hosts else "add it to `hosts`"
            problem = f"is not one of the table's hosts; {remedy}"
            problems.append(document.error(("account_currency", host), problem))
    return given


def _cells(entries: Sequence[CellsEntry]) -> tuple[Cells, ...]:
    return tuple(Cells(entry.model, entry.resolution, entry.tier, entry.why) for entry in entries)


def _model_periods(entry: PriceFile, document: YamlDocument, problems: TableProblems) -> dict[str, Validity]:
    """Returns the periods of single models, each of which must be within the table's period."""
    periods = {}
    for model, narrowed in entry.model_periods.items():
        path = ("model_periods", model)
        since = narrowed.valid_from or entry.valid_from
        until = narrowed.valid_until or entry.valid_until
        if model not in entry.rates:
            problem = f"{model!r} has no rates; {did_you_mean(model, list(entry.rates))}"
            problems.append(document.error(path, problem))
        if narrowed.valid_from is None and narrowed.valid_until is None:
            problems.append(document.error(path, "has no period; give valid_from, valid_until or both"))
        elif since and until and since >= until:
            problem = "has a period that is empty or outside the table's; correct valid_from or valid_until"
            problems.append(document.error(path, problem))
        if entry.valid_from and since and since < entry.valid_from:
            problem = "is before the table's own valid_from; remove this valid_from"
            problems.append(document.error((*path, "valid_from"), problem))
        if entry.valid_until and until and until > entry.valid_until:
            problem = "is after the table's own valid_until; remove this valid_until"
            problems.append(document.error((*path, "valid_until"), problem))
        periods[model] = Validity(since, until)
    return periods


def _problems_of_choices(entry: PriceFile, document: YamlDocument) -> Iterator[TableError]:
    """Checks that only the last entry of a first-match list always matches, and that `unpriced` is unique."""
    for key, whens in (
        ("tiers", [choice.when for choice in entry.tiers]),
        ("quantity", [choice.when for choice in entry.quantity]),
    ):
        always = [place for place, when in enumerate(whens) if not when]
        if not always:
            problem = "the last entry must always match; remove its `when`, or add a last entry without `when`"
            yield document.error((key, len(whens) - 1), problem)
        elif always[0] != len(whens) - 1:
            problem = "cannot be reached, because the entry before it always matches; put that entry last"
            yield document.error((key, always[0] + 1), problem)
    for place, choice in enumerate(entry.quantity):
        if (choice.fact is None) == (choice.sum is None):
            problem = "must have either `fact` or `sum`; give one of the two"
            yield document.error(("quantity", place), problem)
        if choice.sum is not None and len(set(choice.sum)) != max(len(choice.sum), 2):
            problem = "must list two or more different facts; for a single fact, use `fact`"
            yield document.error(("quantity", place, "sum"), problem)
    seen: set[tuple[str, str | None, str | None]] = set()
    for place, unpriced in enumerate(entry.unpriced):
        cell = (unpriced.model, unpriced.resolution, unpriced.tier)
        if cell in seen:
            yield document.error(("unpriced", place), "is listed twice; keep one entry")
        seen.add(cell)


def _billing(entry: PriceFile) -> Billing:
    unit = entry.billing.statement_unit
    statement_unit = StatementUnit(unit.name, unit.per_currency_unit, unit.rounding) if unit else None
    return Billing(entry.billing.failed_tasks, statement_unit)


def _quantity(entry: QuantityEntry) -> Quantity:
    counted: list[str] = [*entry.sum] if entry.sum else [str(entry.fact)]
    fact, *added = counted
    floor = (entry.at_least.fact, entry.at_least.times) if entry.at_least else None
    return Quantity(fact, entry.unit, entry.per, entry.rounding, entry.step, entry.minimum, tuple(added), floor)


def _rates(entry: PriceFile, document: YamlDocument, problems: TableProblems) -> dict[Cell, Rate]:
    own = entry.unit
    default = None if own is None else OwnUnit(own.name, own.name, own.value)
    units = {
        model: OwnUnit(kind, f"{kind} unit", entry.units[kind])
        for model, kind in entry.pack_of.items()
        if kind in entry.units
    }
    rates = {}
    for cell, price in cells(entry.rates):
        unit = units.get(cell.model, default)
        if unit is None:
            rates[cell] = Rate(cell, price, str(cell))
            continue
        try:
            rates[cell] = own_unit_rate(cell, price, unit, entry.currency)
        except ValueError as error:
            path = ("units", unit.name) if cell.model in units else ("unit", "value")
            problems.append(document.error(path, str(error)))
    return rates


def _in_order(loaded: list[tuple[PriceTable, YamlDocument]]) -> tuple[PriceTable, ...]:
    """Sorts a provider's tables, oldest first.

    Raises:
        TableError: two of them are in force at the same time.
    """
    undated = [entry for entry in loaded if entry[0].valid_from is None]
    dated = sorted(
        (entry for entry in loaded if entry[0].valid_from is not None),
        key=lambda entry: str(entry[0].valid_from),
    )
    ordered = [*undated, *dated]
    for (earlier, _), (later, document) in pairwise(ordered):
        if earlier.valid_until is None or later.valid_from is None or earlier.valid_until > later.valid_from:
            raise document.error(
                ("valid_from",),
                f"overlaps {earlier.id}, which applies until {earlier.valid_until or 'further notice'}; "
                "set its valid_until to no later than this table's valid_from",
            )
    return tuple(table for table, _ in ordered)


def _check_hosts(loaded: Iterable[Iterable[tuple[PriceTable | UnpricedProvider, YamlDocument]]]) -> None:
    """Checks that each host belongs to one provider, because the host decides which provider bills.

    Raises:
        TableError: two providers list the same host.
    """
    problems = TableProblems()
    owners: dict[str, str] = {}
    for entry, document in chain.from_iterable(loaded):
        for place, host in enumerate(entry.hosts):
            if owners.setdefault(host, entry.provider) != entry.provider:
                problem = f"{host!r} is also a host of {owners[host]}; remove it from one of the two"
                problems.append(document.error(("hosts", place), problem))
    problems.raise_first()
