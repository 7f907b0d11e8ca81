"""The facts that a statement states about a task beside its charge, read by the statement's mapping."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kling_pricing.reconcile.statement_columns import ModelColumnEntry
from kling_pricing.reconcile.statement_file import StatementFile
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell
from kling_pricing.tables.rules import possible
from kling_pricing.wire.facts import EMPTY_FACTS
from kling_pricing.wire.fields import folded


class RowFacts(NamedTuple):
    """The facts of a row.

    Attributes:
        written_model: the model as the statement writes it; None: not stated.
        facts: the facts under the names that price tables use.
        unknown: column -> its text, where the mapping does not know the text.
        other_models: further models that the name can mean, as an image model and a video model may share it.
    """

    written_model: str | None
    facts: Mapping[str, Any]
    unknown: Mapping[str, str] = {}
    other_models: tuple[str, ...] = ()

    @property
    def model(self) -> str | None:
        """The canonical name of the model; None: not stated, or unknown."""
        model: str | None = self.facts.get("model")
        return model

    def read_for(self, model: str | None) -> RowFacts:
        """Returns the facts with the name read as a model, if it can mean that model."""
        return self._replace(facts={**self.facts, "model": model}) if model in self.other_models else self

    @property
    def resolution(self) -> str | None:
        """The resolution; None: not stated."""
        resolution: str | None = self.facts.get("resolution")
        return resolution

    def tier(self, table: PriceTable, model: str | None = None) -> str | None:
        """Returns the only tier of a table that fits these facts; None: several fit, or no fact is stated."""
        tiers = table.choose_tier({**EMPTY_FACTS, **self.facts, **({"model": model} if model else {})})
        return tiers[0] if len(tiers) == 1 and self.facts.keys() - {"model", "resolution"} else None

    def allows_tier(self, cell: Cell, table: PriceTable) -> bool:
        """Returns whether no stated fact contradicts the tier of a cell; other facts are unknown."""
        unknown: dict[str, Any] = dict.fromkeys(EMPTY_FACTS)
        return cell.tier in possible(table.tiers, unknown | dict(self.facts) | {"model": cell.model})


def read_row_facts(
    workspace: Workspace, book: PriceBook, statements: Sequence[Statement], table: PriceTable
) -> Mapping[int, RowFacts]:
    """Makes the table `row_facts`: one row for each different `charge.stated` of a statement.

    Args:
        workspace: the database.
        book: the wire formats, whose model names a statement may use.
        statements: the statements, with their mappings.
        table: the price table whose tiers the rows show.

    Returns:
        The facts by their id in that table.
    """
    workspace.run(
        """
        CREATE TABLE stated AS
        SELECT row_number() OVER (ORDER BY file, stated) AS id, file, stated
        FROM (SELECT DISTINCT file, stated FROM charge WHERE problem IS NULL)
        """
    )
    workspace.run(
        "CREATE TABLE known_facts (id BIGINT, model VARCHAR, written_model VARCHAR, resolution VARCHAR,"
        " tier VARCHAR, unknown VARCHAR[][], models VARCHAR[])"
    )
    facts_by_id: dict[int, RowFacts] = {}
    rows = []
    for number, file, stated in workspace.rows("SELECT id, file, stated FROM stated ORDER BY id"):
        is_given = file < len(statements)  # the books keep no more than the charge of a remembered row
        facts = _row_facts(book, statements[file].mapping, **stated) if is_given else RowFacts(None, {})
        facts_by_id[number] = facts
        resolution = None if facts.resolution == ANY else facts.resolution
        unknown = [list(pair) for pair in facts.unknown.items()] or None
        models = [facts.model, *facts.other_models] if facts.model else None
        tier = facts.tier(table)
        rows.append((number, facts.model, facts.written_model, resolution, tier, unknown, models))
    workspace.insert("known_facts", rows)
    workspace.run(
        "CREATE TABLE row_facts AS SELECT stated.*, known_facts.* EXCLUDE (id)"
        " FROM stated JOIN known_facts USING (id)"
    )
    return facts_by_id


def _row_facts(
    book: PriceBook, mapping: StatementFile, *, model: str, resolution: str, facts: Sequence[str]
) -> RowFacts:
    """Reads the texts of a row."""
    columns = mapping.columns
    if columns is None:
        names_of = [mapping.answers.wire_format] if mapping.answers else []
        named = next(iter(_facts_of_name(book, names_of, model)), {})
        return RowFacts(model or None, named | (json.loads(facts[0]) if facts[0] else {}))
    readings = facts_of_model(book, columns.model, model)
    known = dict(readings[0]) if readings else {}
    if resolution:
        names = columns.resolution.names if columns.resolution else {}
        known["resolution"] = look_up(names, resolution) or folded(resolution)
    unknown = {}
    for entry, text in zip(columns.facts, facts, strict=True):
        meaning = look_up(entry.means, text)
        if meaning is None and text:
            unknown[entry.column] = text
        known |= meaning or {}
    models = dict.fromkeys(reading["model"] for reading in readings if "model" in reading)
    models.pop(known.get("model"), None)
    return RowFacts(model or None, known, unknown, tuple(models))


def facts_of_model(book: PriceBook, entry: ModelColumnEntry | None, written: str) -> list[dict[str, Any]]:
    """Returns the facts that the name of a model implies, by the mapping's own names or those of the APIs.

    The list has one entry for each model that the name can mean.
    """
    if entry is None:
        return []
    listed = look_up(entry.names, written)
    return [dict(listed)] if listed is not None else _facts_of_name(book, entry.names_of, written)


def _facts_of_name(book: PriceBook, names_of: Iterable[str], written: str) -> list[dict[str, Any]]:
    """Returns the facts that a name implies in each of some wire formats that knows it."""
    return [
        {**implied, "model": model}
        for wire_format in names_of
        for name, (model, implied) in book.matrices[wire_format].names.items()
        if folded(name) == folded(written)
    ]


def look_up(names: Mapping[str, Any], written: str) -> Any:
    """Returns the value of a name, regardless of capitals; None: the name is not listed."""
    return next((value for name, value in names.items() if folded(name) == folded(written)), None)
