"""Converts the parts that the files of published tables and contracts have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.errors import TableProblems
from kling_pricing.findings import Note
from kling_pricing.money import MAX_DECIMALS, format_decimal, multiply, round_money
from kling_pricing.strict_yaml import Path as KeyPath
from kling_pricing.strict_yaml import YamlDocument, key_path
from kling_pricing.tables.http_rules import HttpRules, Idempotency, McpRules, RefusedAnswers, UnpricedPaths
from kling_pricing.tables.loading.files import NoteEntry, SourceEntry
from kling_pricing.tables.loading.http_entries import HttpEntry, McpEntry, PathsEntry
from kling_pricing.tables.rates import Cell, Rate, TableSource
from kling_pricing.wire.paths import PathPattern


class OwnUnit(NamedTuple):
    """A unit of the provider's own, in which rates are published.

    Attributes:
        name: the name, which is the kind of the pack if the unit is that of a pack.
        shown: the name in descriptions of rates.
        value: the value of one unit, in the table's currency.
    """

    name: str
    shown: str
    value: Decimal


def table_id(document: YamlDocument) -> str:
    """Returns the table's id, the folder and the file name without its extension: `<provider>/<date>`."""
    folder, name = document.name.split("/")[-2:]
    return f"{folder}/{name.removesuffix('.yaml')}"


def table_sources(entries: Iterable[SourceEntry]) -> tuple[TableSource, ...]:
    """Converts the sources of a table."""
    return tuple(TableSource(entry.ref, entry.checked, entry.authority) for entry in entries)


def table_notes(entries: Iterable[NoteEntry]) -> tuple[tuple[datetime | None, Note], ...]:
    """Converts the notes of a table's quotes, each with the instant from which it applies."""
    return tuple((entry.since, Note(entry.code, entry.message)) for entry in entries)


def cells(rates: Mapping[str, Mapping[str, Mapping[str, Decimal]]]) -> Iterator[tuple[Cell, Decimal]]:
    """Yields every cell of a file's rates with its price."""
    for model, resolutions in rates.items():
        for resolution, tiers in resolutions.items():
            for tier, price in tiers.items():
                yield Cell(model, resolution, tier), price


def own_unit_rate(cell: Cell, price: Decimal, unit: OwnUnit, currency: str) -> Rate:
    """Returns the rate of a cell that costs `price` units; converts the price to the currency exactly.

    Raises:
        ValueError: the converted price has more decimals than are allowed.
    """
    amount, value = multiply(price, unit.value), format_decimal(unit.value)
    if amount != round_money(amount):
        raise ValueError(
            f"the price of {cell} is {format_decimal(price)} {unit.shown}s at {value}, "
            f"which is {format_decimal(amount)} {currency}, but at most {MAX_DECIMALS} decimal places are "
            "allowed; use fewer decimal places in the price or in the unit value"
        )
    number = format_decimal(price)
    description = f"{cell}, {number} {unit.shown}{'' if price == 1 else 's'} at {value} {currency}"
    return Rate(cell, amount, description, price, unit.name)


def check_period(valid_from: datetime | None, valid_until: datetime | None, document: YamlDocument) -> None:
    """Checks that a period ends after it starts.

    Raises:
        TableError: it does not.
    """
    if valid_from and valid_until and valid_from >= valid_until:
        raise document.error(("valid_until",), "must be later than valid_from; correct one of the two")


def check_zeros(amounts: Mapping[KeyPath, Decimal], document: YamlDocument, *, free: bool) -> None:
    """Checks that no price is 0 by mistake.

    Args:
        amounts: key path -> price.
        document: the file.
        free: whether the file says that prices of 0 are intended.

    Raises:
        TableError: a price is 0, and the file does not say that this is intended.
    """
    problem = "is 0; enter the price, or add `free: true` to the file if the provider charges nothing"
    TableProblems(
        [document.error(path, problem) for path, amount in amounts.items() if not amount and not free]
    ).raise_first()


def check_filled(document: YamlDocument) -> None:
    """Checks that the currency, the sources and the rates of a price file are filled in.

    If the file says why the rest has no price, null rates are removed from the document.

    Raises:
        TableError: values are still null; the message lists all of them.
    """
    tree = document.tree if isinstance(document.tree, dict) else {}
    if tree.get("unpriced_rest") is not None:
        _remove_nulls(tree.get("rates"))
    missing = [
        path for key in ("currency", "sources", "rates") if key in tree for path in _nulls(tree[key], (key,))
    ]
    if missing:
        subject = "1 value is" if len(missing) == 1 else f"{len(missing)} values are"
        raise document.error(
            missing[0],
            f"{subject} not filled in yet ({', '.join(key_path(path) for path in missing)}); enter each value, "
            "move combinations without a price to `unpriced`, or give one reason for all null rates in "
            "`unpriced_rest`",
        )


def _remove_nulls(rates: object) -> None:
    """Removes null rates, and the resolutions and models that have no other."""
    if isinstance(rates, dict):
        for key, value in [*rates.items()]:
            _remove_nulls(value)
            if value is None or value == {}:
                del rates[key]


def _nulls(node: object, path: KeyPath) -> Iterator[KeyPath]:
    """Yields the paths of all null values."""
    if node is None:
        yield path
    elif isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _nulls(value, (*path, key))


def patterns(entries: Iterable[PathsEntry]) -> tuple[PathPattern, ...]:
    """Converts groups of paths."""
    return tuple(PathPattern.of(path) for entry in entries for path in entry.paths)


def http_rules(entry: HttpEntry) -> HttpRules:
    """Converts an API's HTTP rules."""
    key = entry.idempotency
    return HttpRules(
        Idempotency(key.header, key.hours, key.source) if key else None,
        tuple(entry.own_id.field.split(".")) if entry.own_id else (),
        tuple(
            RefusedAnswers(
                answer.status,
                tuple(answer.unless),
                frozenset(answer.code),
                answer.source,
                (answer.unless_message or "").casefold(),
            )
            for answer in entry.refused
        ),
        entry.forms,
        patterns(entry.free),
        patterns(entry.other_services),
        tuple(
            UnpricedPaths(PathPattern.of(path), group.why) for group in entry.unpriced for path in group.paths
        ),
        tuple(entry.allow_paths),
        _mcp_rules(entry.mcp) if entry.mcp else None,
        entry.error,
        tuple(tuple(path.split(".")) for path in entry.code_at),
        own_id_lookup=entry.own_id.lookup if entry.own_id else None,
        task_lists=tuple(listed.path for listed in entry.task_lists),
        billed_facts=tuple(entry.billed_facts.facts) if entry.billed_facts else (),
        account=patterns(entry.account),
        callback_field=tuple(entry.callback.field.split(".")) if entry.callback else (),
    )


def _mcp_rules(entry: McpEntry) -> McpRules:
    return McpRules(
        PathPattern.of(entry.path),
        entry.submits_to,
        entry.create,
        entry.nested,
        tuple({entry.key: None} | dict.fromkeys(entry.beside)),
        entry.key,
        tuple(entry.task_tools),
        tuple(entry.free),
        tuple(entry.methods),
        tuple(entry.refused_errors),
    )
