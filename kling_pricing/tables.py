"""Loads `pricing_tables/` and the user's own tables, and holds the files against each other.

Where the files lie, and how a folder of the user's is read over the bundled one, is told in `table_folders`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Any

from kling_pricing.capabilities import (
    CapabilityMatrix,
    ImpliedAction,
    MediaLimit,
    ModelCapabilities,
    Rule,
)
from kling_pricing.contracts import load_contracts
from kling_pricing.coverage import reachable_cells
from kling_pricing.endpoints import Submission
from kling_pricing.price_table import PriceBook, PriceTable
from kling_pricing.rates import Billing, Cell, Cells, Period, Quantity, Rate, StatementUnit
from kling_pricing.rules import Choice, OneOf
from kling_pricing.strict_yaml import Document, Path, checked, did_you_mean, load, read
from kling_pricing.table_files import (
    CapabilityFile,
    MediaEntry,
    ModelEntry,
    PriceFile,
    QuantityEntry,
    RuleEntry,
    WarningEntry,
)
from kling_pricing.table_folders import file_bytes, own_folder, table_files
from kling_pricing.table_parts import (
    cells,
    check_period,
    http_rules,
    make_rate,
    table_id,
    table_notes,
    table_sources,
)
from kling_pricing.wire import NAMES as WIRE_FORMATS
from kling_pricing.wire import wire_format

_CODES_OF_OUR_OWN = frozenset(
    {"field_not_taken", "endpoint_action", "unknown_field", "wrong_type", "unknown_model", "not_checked"}
)


@cache
def default_price_book() -> PriceBook:
    """The book that is used when none is given: bundled tables, and the folder that `TABLES_VARIABLE` names.

    Loaded once in the life of the process.
    """
    return load_price_book(own_folder())


def load_price_book(directory: str | os.PathLike[str] | None = None) -> PriceBook:
    """Loads the bundled tables and, over them, a folder of the user's.

    Raises:
        TableError: a file is refused, two files contradict each other, or the folder cannot be read.
    """
    found = table_files(directory)
    matrices = {}
    for (kind, *_), (name, file) in found.items():
        if kind == "capabilities":
            matrix = _load_matrix(file, name)
            matrices[matrix.wire_format] = matrix
    tables: dict[str, list[tuple[PriceTable, Document]]] = {}
    overlays: list[tuple[str, Document, bytes]] = []
    for path, (name, file) in found.items():
        if path[0] == "prices":
            data = file_bytes(file, name)
            document = load(data, name=name)
            if isinstance(document.tree, dict) and "extends" in document.tree:
                overlays.append((path[1], document, data))
                continue
            table = _table(document, data, folder=path[1])
            _check_coverage(table, document, matrices)
            tables.setdefault(table.provider, []).append((table, document))
    published = {provider: _in_order(tables[provider]) for provider in sorted(tables)}
    _check_hosts(tables)
    return PriceBook(published, matrices, load_contracts(overlays, published))


def _load_matrix(file: Traversable, name: str) -> CapabilityMatrix:
    entry, document = read(file_bytes(file, name), CapabilityFile, name=name)
    if entry.wire_format != file.name.removesuffix(".yaml"):
        problem = f"the file's name says {file.name.removesuffix('.yaml')!r}; make them the same"
        raise document.error(("wire_format",), problem)
    _check_vocabulary(entry, document)
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
    return CapabilityMatrix(
        entry.wire_format,
        models,
        names,
        tuple(source.ref for source in entry.sources),
        tuple(
            Submission(
                each.path, entry.wire_format, tuple(each.actions or ()), each.source, each.status, each.cancel
            )
            for each in entry.endpoints
        ),
        http_rules(entry.http),
    )


def _check_vocabulary(entry: CapabilityFile, document: Document) -> None:
    """Holds a matrix's words against those that its wire format can say, and its parts against each other."""
    if entry.wire_format not in WIRE_FORMATS:
        problem = f"no wire format of that name is known; known: {', '.join(WIRE_FORMATS)}"
        raise document.error(("wire_format",), problem)
    inputs = wire_format(entry.wire_format).FIELD_NAMES
    actions = {action for model in entry.models.values() for action in model.actions}

    def known(word: str, words: Iterable[str], path: Path) -> None:
        if word not in words:
            raise document.error(path, f"{word!r} is unknown; {did_you_mean(word, sorted(words))}")

    paths: set[str] = set()
    for place, endpoint in enumerate(entry.endpoints):
        if endpoint.path in paths:
            raise document.error(("endpoints", place, "path"), "is listed twice; keep one entry")
        paths.add(endpoint.path)
        for position, action in enumerate(endpoint.actions or ()):
            known(action, actions, ("endpoints", place, "actions", position))
    if entry.http.own_id is not None:
        known(entry.http.own_id.field, wire_format(entry.wire_format).FIELDS, ("http", "own_id", "field"))
    for place, name in enumerate(entry.required):
        known(name, inputs, ("required", place))
    for place, implied in enumerate(entry.implied_actions):
        known(implied.action, actions, ("implied_actions", place, "action"))
    for model, each in entry.models.items():
        for place, name in enumerate(each.fields):
            known(name, inputs, ("models", model, "fields", place))
        if "action" in each.limits:
            raise document.error(("models", model, "limits", "action"), "is said by `actions`; remove it")
        if "resolution" in each.fields and not isinstance(each.limits.get("resolution"), OneOf):
            problem = "the model takes a resolution; list those it takes, as resolution: [720p]"
            raise document.error(("models", model, "limits"), problem)


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
        required=tuple(file.required if entry.required is None else entry.required),
        defaults=file.defaults | entry.defaults,
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


def _table(document: Document, data: bytes, *, folder: str) -> PriceTable:
    entry = checked(document, PriceFile)
    if entry.provider != folder:
        raise document.error(("provider",), f"the folder's name says {folder!r}; make them the same")
    check_period(entry.valid_from, entry.valid_until, document)
    _check_choices(entry, document)
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
        tiers=tuple(Choice(each.tier, each.when) for each in entry.tiers),
        quantity=tuple(Choice(_quantity(each), each.when) for each in entry.quantity),
        rates=_rates(entry, document),
        unpriced=tuple(Cells(each.model, each.resolution, each.tier, each.why) for each in entry.unpriced),
        unreached=tuple(Cells(each.model, each.resolution, each.tier, each.why) for each in entry.unreached),
        notes=table_notes(entry.notes),
        own_unit=entry.unit.name if entry.unit else None,
        model_periods=_model_periods(entry, document),
    )


def _model_periods(entry: PriceFile, document: Document) -> dict[str, Period]:
    """The periods of models, each narrower than the table's and within it."""
    periods = {}
    for model, own in entry.model_periods.items():
        path = ("model_periods", model)
        if model not in entry.rates:
            raise document.error(path, f"{model!r} has no rates; {did_you_mean(model, list(entry.rates))}")
        if own.valid_from is None and own.valid_until is None:
            raise document.error(path, "narrows nothing; give valid_from, valid_until or both")
        since, until = own.valid_from or entry.valid_from, own.valid_until or entry.valid_until
        if since and until and since >= until:
            raise document.error(path, "holds no instant of the table's period; it must begin before it ends")
        if entry.valid_from and since and since < entry.valid_from:
            raise document.error((*path, "valid_from"), "is before the table's own; leave it out")
        if entry.valid_until and until and until > entry.valid_until:
            raise document.error((*path, "valid_until"), "is after the table's own; leave it out")
        periods[model] = Period(since, until)
    return periods


def _check_choices(entry: PriceFile, document: Document) -> None:
    """Lists of which the first match wins must end in one that always matches, and have it nowhere else."""
    for key, whens in (
        ("tiers", [each.when for each in entry.tiers]),
        ("quantity", [each.when for each in entry.quantity]),
    ):
        always = [place for place, when in enumerate(whens) if not when]
        if not always:
            raise document.error(
                (key, len(whens) - 1), "the last entry must have no `when`, so that one always matches"
            )
        if always[0] != len(whens) - 1:
            raise document.error((key, always[0] + 1), "is never reached: the entry before it always matches")
    seen: set[tuple[str, str | None, str | None]] = set()
    for place, each in enumerate(entry.unpriced):
        cell = (each.model, each.resolution, each.tier)
        if cell in seen:
            raise document.error(("unpriced", place), "is listed twice; keep one entry")
        seen.add(cell)


def _billing(entry: PriceFile) -> Billing:
    unit = entry.billing.statement_unit
    statement_unit = StatementUnit(unit.name, unit.per_currency_unit, unit.rounding) if unit else None
    return Billing(entry.billing.failed_tasks, statement_unit)


def _quantity(entry: QuantityEntry) -> Quantity:
    return Quantity(entry.fact, entry.unit, entry.per, entry.rounding, entry.step, entry.minimum)


def _rates(entry: PriceFile, document: Document) -> dict[Cell, Rate]:
    try:
        return {cell: make_rate(cell, price, entry.unit, entry.currency) for cell, price in cells(entry.rates)}
    except ValueError as error:
        raise document.error(("unit", "value"), str(error)) from None


def _check_coverage(table: PriceTable, document: Document, matrices: Mapping[str, CapabilityMatrix]) -> None:
    """Holds a table against its wire formats: every allowed cell has one answer, and no other cell has any."""
    formats = [("wire_formats", place, name) for place, name in enumerate(table.wire_formats)]
    formats += [("also_prices", place, name) for place, name in enumerate(table.also_prices)]
    reachable: dict[Cell, str] = {}
    for key, place, spoken in formats:
        if spoken not in matrices:
            known = ", ".join(sorted(matrices))
            raise document.error((key, place), f"no capabilities/{spoken}.yaml; there are: {known}")
        for cell in reachable_cells(matrices[spoken], table.tiers):
            reachable.setdefault(cell, spoken)
    names = ", ".join((*table.wire_formats, *table.also_prices))
    for place, past in enumerate(table.unreached):
        covered = [cell for cell in table.rates if past.covers(cell)]
        if not covered:
            raise document.error(("unreached", place), f"{past} has no rate; remove the entry")
        if now := [cell for cell in covered if cell in reachable]:
            raise document.error(
                ("unreached", place),
                f"{reachable[now[0]]} allows {now[0]}; name only what requests cannot reach",
            )
    for cell in table.rates:
        if cell not in reachable and not any(past.covers(cell) for past in table.unreached):
            raise document.error(
                ("rates", *cell),
                f"no request can reach this rate: {names} allows no {cell}"
                f"{_misspelt(cell, reachable)}; remove the rate, or correct the tiers or the capabilities",
            )
    for place, unpriced in enumerate(table.unpriced):
        if both := [cell for cell in table.rates if unpriced.covers(cell)]:
            raise document.error(("unpriced", place), f"{both[0]} has a rate; remove one of the two")
        if not any(unpriced.covers(cell) for cell in reachable):
            raise document.error(("unpriced", place), f"no request can reach {unpriced}; remove the entry")
    for cell, spoken in reachable.items():
        if spoken in table.wire_formats and cell not in table.rates and table.why_unpriced(cell) is None:
            raise document.error(
                ("rates", *cell),
                f"{spoken} allows {cell}, which is neither priced nor listed under unpriced; "
                "add its published rate, or an unpriced entry that says why there is none",
            )


def _misspelt(cell: Cell, reachable: Iterable[Cell]) -> str:
    """A hint, where one part of an unreachable cell is no model, resolution or tier at all."""
    for part, known in zip(cell, zip(*reachable, strict=True), strict=False):
        if part not in known:
            close = get_close_matches(part, sorted(set(known)), n=1)
            return f" ({part!r} is unknown{f', did you mean {close[0]!r}?' if close else ''})"
    return ""


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


def _check_hosts(tables: Mapping[str, list[tuple[PriceTable, Document]]]) -> None:
    """A host tells who bills, so it belongs to one provider.

    Raises:
        TableError: two providers list the same host.
    """
    owners: dict[str, str] = {}
    for provider, loaded in tables.items():
        for table, document in loaded:
            for place, host in enumerate(table.hosts):
                if owners.setdefault(host, provider) != provider:
                    raise document.error(
                        ("hosts", place), f"{host!r} is a host of {owners[host]} too; keep one"
                    )
