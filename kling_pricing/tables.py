"""Loads `pricing_tables/` and the user's own tables, and holds the files against each other.

A folder of tables looks like this::

    prices/<provider>/<date>.yaml
    capabilities/<wire format>.yaml

The bundled folder is always read.
A folder of the user's is read over it: a file of the same path replaces the bundled one, any other is added.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any

from kling_pricing.capabilities import (
    CapabilityMatrix,
    ImpliedAction,
    MediaLimit,
    ModelCapabilities,
    Rule,
)
from kling_pricing.coverage import reachable_cells
from kling_pricing.errors import TableError
from kling_pricing.findings import Note
from kling_pricing.money import multiply, plain
from kling_pricing.price_table import (
    Billing,
    Cell,
    PriceBook,
    PriceTable,
    Quantity,
    Rate,
    Source,
    StatementUnit,
    Unpriced,
)
from kling_pricing.rules import Choice, OneOf
from kling_pricing.strict_yaml import MAX_BYTES, Document, read
from kling_pricing.table_files import (
    CapabilityFile,
    MediaEntry,
    ModelEntry,
    PriceFile,
    QuantityEntry,
    RuleEntry,
    SourceEntry,
    WarningEntry,
)

TABLES_VARIABLE = "KLING_PRICING_TABLES"
"""Environment variable that names the user's folder of tables."""

_CODES_OF_OUR_OWN = frozenset(
    {"field_not_taken", "unknown_field", "wrong_type", "unknown_model", "not_checked"}
)


@cache
def default_price_book() -> PriceBook:
    """The book that is used when none is given: bundled tables, and the folder that `TABLES_VARIABLE` names.

    Loaded once in the life of the process.
    """
    return load_price_book(os.environ.get(TABLES_VARIABLE) or None)


def load_price_book(directory: str | os.PathLike[str] | None = None) -> PriceBook:
    """Loads the bundled tables and, over them, a folder of the user's.

    Raises:
        TableError: a file is refused, two files contradict each other, or the folder cannot be read.
    """
    found = _yaml_files(_bundled(), "pricing_tables")
    if directory is not None:
        if not Path(directory).is_dir():
            raise TableError(
                "no such folder; give one with prices/ or capabilities/ in it", file=str(directory)
            )
        found |= _yaml_files(Path(directory), str(directory))
    matrices = {}
    for (kind, *_), (name, file) in found.items():
        if kind == "capabilities":
            matrix = _load_matrix(file, name)
            matrices[matrix.wire_format] = matrix
    tables: dict[str, list[tuple[PriceTable, Document]]] = {}
    for (kind, *_), (name, file) in found.items():
        if kind == "prices":
            table, entry, document = _load_table(file, name)
            _check_coverage(table, entry, document, matrices)
            tables.setdefault(table.provider, []).append((table, document))
    return PriceBook({provider: _in_order(tables[provider]) for provider in sorted(tables)}, matrices)


def _bundled() -> Traversable:
    """The tables of an installed package, else those beside the package in a checkout."""
    package = files("kling_pricing")
    installed = package / "pricing_tables"
    return installed if installed.is_dir() else Path(str(package)).parent / "pricing_tables"


def _yaml_files(root: Traversable, shown: str) -> dict[tuple[str, ...], tuple[str, Traversable]]:
    """Path below the root -> (name for messages, file), in a fixed order.

    Raises:
        TableError: a YAML file that stands where it would not be read.
    """
    found: dict[tuple[str, ...], tuple[str, Traversable]] = {}

    def walk(folder: Traversable, path: tuple[str, ...]) -> None:
        for entry in sorted(folder.iterdir(), key=lambda item: item.name):
            here = (*path, entry.name)
            if entry.is_dir():
                walk(entry, here)
            elif entry.name.endswith((".yaml", ".yml")):
                name = "/".join((shown, *here))
                shape = (here[0], len(here), entry.name.endswith(".yaml"))
                if shape not in {("prices", 3, True), ("capabilities", 2, True)}:
                    raise TableError(
                        "would not be read here; the places are prices/<provider>/<date>.yaml "
                        "and capabilities/<wire format>.yaml",
                        file=name,
                    )
                found[here] = (name, entry)

    walk(root, ())
    return found


def _bytes(file: Traversable, name: str) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}", file=name) from None


def _stem(file: Traversable) -> str:
    return file.name.removesuffix(".yaml")


def _load_matrix(file: Traversable, name: str) -> CapabilityMatrix:
    entry, document = read(_bytes(file, name), CapabilityFile, name=name)
    if entry.wire_format != _stem(file):
        raise document.error(("wire_format",), f"the file's name says {_stem(file)!r}; make them the same")
    names: dict[str, tuple[str, Mapping[str, Any]]] = {}
    models = {}
    for model, model_entry in entry.models.items():
        implied = (
            model_entry.names
            if isinstance(model_entry.names, dict)
            else {written: {} for written in model_entry.names}
        )
        for place, written in enumerate(implied):
            if written in names:
                path = ("models", model, "names", place if isinstance(model_entry.names, list) else written)
                problem = f"{written!r} already names {names[written][0]}; a name means one model"
                raise document.error(path, problem)
            names[written] = (model, implied[written])
        models[model] = _model_capabilities(model, model_entry, entry, document)
    return CapabilityMatrix(entry.wire_format, models, names, tuple(source.ref for source in entry.sources))


def _model_capabilities(
    model: str, entry: ModelEntry, file: CapabilityFile, document: Document
) -> ModelCapabilities:
    limits = {"action": OneOf(tuple(entry.actions))} | entry.limits
    rules = [Rule(f"{fact}_limit", {}, {fact: limit}, entry.source) for fact, limit in limits.items()]
    for level in (file, entry):
        rules += [_rule(rule) for rule in level.rules]
        rules += [_rule(warning) for warning in level.warnings]
    seen: set[str] = set(_CODES_OF_OUR_OWN)
    for rule in rules:
        if rule.code in seen:
            raise document.error(
                ("models", model), f"the code {rule.code!r} is used twice for this model; rename one"
            )
        seen.add(rule.code)
    implied = [
        Choice(ImpliedAction(each.action, next(iter(each.when), "action")), each.when)
        for each in file.implied_actions
    ]
    return ModelCapabilities(
        model=model,
        names=tuple(entry.names),
        fields=frozenset(entry.fields),
        required=tuple(file.required),
        defaults=file.defaults,
        rules=tuple(rules),
        implied_actions=tuple(implied),
        media=tuple(_media_limit(each) for each in (*file.media, *entry.media)),
        source=entry.source,
    )


def _rule(entry: RuleEntry | WarningEntry) -> Rule:
    warning = isinstance(entry, WarningEntry)
    return Rule(entry.code, entry.when, entry.need, entry.source, entry.message or "", warning=warning)


def _media_limit(entry: MediaEntry) -> MediaLimit:
    return MediaLimit(entry.kind, entry.limits, entry.source)


def _load_table(file: Traversable, name: str) -> tuple[PriceTable, PriceFile, Document]:
    data = _bytes(file, name)
    entry, document = read(data, PriceFile, name=name)
    folder = name.split("/")[-2]
    if entry.provider != folder:
        raise document.error(("provider",), f"the folder's name says {folder!r}; make them the same")
    if entry.valid_from and entry.valid_until and entry.valid_from >= entry.valid_until:
        raise document.error(("valid_until",), "ends before it begins; valid_until must be after valid_from")
    table = PriceTable(
        provider=entry.provider,
        id=f"{entry.provider}/{_stem(file)}",
        digest=sha256(data).hexdigest(),
        hosts=tuple(entry.hosts),
        wire_formats=tuple(entry.wire_formats),
        also_prices=tuple(entry.also_prices),
        currency=entry.currency,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        sources=tuple(_source(each) for each in entry.sources),
        billing=_billing(entry),
        tiers=tuple(Choice(each.tier, each.when) for each in entry.tiers),
        quantity=tuple(Choice(_quantity(each), each.when) for each in entry.quantity),
        rates=_rates(entry),
        unpriced=tuple(Unpriced(each.model, each.resolution, each.tier, each.why) for each in entry.unpriced),
        notes=tuple((each.since, Note(each.code, each.message)) for each in entry.notes),
    )
    return table, entry, document


def _source(entry: SourceEntry) -> Source:
    return Source(entry.ref, entry.checked, entry.authority)


def _billing(entry: PriceFile) -> Billing:
    unit = entry.billing.statement_unit
    statement_unit = StatementUnit(unit.name, unit.per_currency_unit, unit.rounding) if unit else None
    return Billing(entry.billing.failed_tasks, statement_unit)


def _quantity(entry: QuantityEntry) -> Quantity:
    return Quantity(entry.fact, entry.unit, entry.per, entry.rounding, entry.step, entry.minimum)


def _rates(entry: PriceFile) -> dict[Cell, Rate]:
    rates = {}
    for model, resolutions in entry.rates.items():
        for resolution, tiers in resolutions.items():
            for tier, price in tiers.items():
                cell = Cell(model, resolution, tier)
                if entry.unit is None:
                    rates[cell] = Rate(cell, price, str(cell))
                else:
                    unit_price = multiply(price, entry.unit.value)
                    worth = f"{plain(entry.unit.value)} {entry.currency}"
                    rates[cell] = Rate(
                        cell, unit_price, f"{cell}, {plain(price)} {entry.unit.name}s at {worth}"
                    )
    return rates


def _check_coverage(
    table: PriceTable, entry: PriceFile, document: Document, matrices: Mapping[str, CapabilityMatrix]
) -> None:
    """Holds a table against its wire formats: every allowed cell has one answer, and no other cell has any."""
    formats = [("wire_formats", place, name) for place, name in enumerate(table.wire_formats)]
    formats += [("also_prices", place, name) for place, name in enumerate(table.also_prices)]
    reachable: dict[Cell, str] = {}
    for key, place, wire_format in formats:
        if wire_format not in matrices:
            known = ", ".join(sorted(matrices))
            raise document.error((key, place), f"no capabilities/{wire_format}.yaml; there are: {known}")
        for cell in reachable_cells(matrices[wire_format], table.tiers):
            reachable.setdefault(cell, wire_format)
    names = ", ".join((*table.wire_formats, *table.also_prices))
    kept = [Unpriced(each.model, each.resolution, each.tier, each.why) for each in entry.kept]
    for place, kept_entry in enumerate(kept):
        covered = [cell for cell in table.rates if kept_entry.covers(cell)]
        if not covered:
            raise document.error(("kept", place), f"there is no rate for {kept_entry}; remove the entry")
        if found := [cell for cell in covered if cell in reachable]:
            raise document.error(("kept", place), f"{reachable[found[0]]} reaches {found[0]}; remove the entry")
    for cell in table.rates:
        if cell not in reachable and not any(kept_entry.covers(cell) for kept_entry in kept):
            raise document.error(
                ("rates", *cell),
                f"no request can reach this rate: {names} allows no {cell}; "
                "remove the rate, correct the capabilities, or say under kept why it stays",
            )
    for place, unpriced in enumerate(table.unpriced):
        if both := [cell for cell in table.rates if unpriced.covers(cell)]:
            raise document.error(("unpriced", place), f"{both[0]} has a rate; remove one of the two")
        if not any(unpriced.covers(cell) for cell in reachable):
            raise document.error(("unpriced", place), f"no request can reach {unpriced}; remove the entry")
    for cell, wire_format in reachable.items():
        if wire_format in table.wire_formats and cell not in table.rates and table.why_unpriced(cell) is None:
            raise document.error(
                ("rates", *cell),
                f"{wire_format} allows {cell}, which is neither priced nor listed under unpriced; "
                "add its published rate, or an unpriced entry that says why there is none",
            )


def _in_order(loaded: list[tuple[PriceTable, Document]]) -> tuple[PriceTable, ...]:
    """A provider's tables, oldest first.

    Raises:
        TableError: two of them are in force at the same time.
    """
    beginning = [entry for entry in loaded if entry[0].valid_from is None]
    dated = sorted(
        (entry for entry in loaded if entry[0].valid_from is not None),
        key=lambda entry: str(entry[0].valid_from),
    )
    ordered = [*beginning, *dated]
    for (earlier, _), (later, document) in pairwise(ordered):
        if earlier.valid_until is None or later.valid_from is None or earlier.valid_until > later.valid_from:
            raise document.error(
                ("valid_from",),
                f"overlaps {earlier.id}, which is in force until {earlier.valid_until or 'further notice'}; "
                "give the earlier table a valid_until",
            )
    return tuple(table for table, _ in ordered)
