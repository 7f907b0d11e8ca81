"""What a statement says of a task beside its charge, as it is written, and what that means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kling_pricing.ledger.model import SENT_SEPARATOR
from kling_pricing.reconcile.mappings import StatementFile
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_table import PriceBook, PriceTable
from kling_pricing.tables.rates import ANY
from kling_pricing.wire.facts import EMPTY_FACTS
from kling_pricing.wire.fields import folded


class Saying(NamedTuple):
    """What a row says.

    Attributes:
        written: the model as it is written; None: it is not.
        facts: what the row tells, in the words of price tables.
        unknown: column -> what stands there, which the mapping does not know.
    """

    written: str | None
    facts: Mapping[str, Any]
    unknown: Mapping[str, str] = {}

    @property
    def model(self) -> str | None:
        """The model's canonical name; None: it is not said, or not known."""
        model: str | None = self.facts.get("model")
        return model

    @property
    def resolution(self) -> str | None:
        """The resolution; None: it is not said."""
        resolution: str | None = self.facts.get("resolution")
        return resolution

    def tier(self, table: PriceTable, model: str | None = None) -> str | None:
        """The only tier of a table in which such a task is; None: what is said leaves several."""
        tiers = table.choose_tier({**EMPTY_FACTS, **self.facts, **({"model": model} if model else {})})
        return tiers[0] if len(tiers) == 1 and self.facts.keys() - {"model", "resolution"} else None


class RowReading:
    """Reads what rows say, by the mappings of their statements."""

    def __init__(self, book: PriceBook, statements: Sequence[Statement]) -> None:
        self._book = book
        self._mappings = [statement.mapping for statement in statements]

    def saying(self, file: int, said: str) -> Saying:
        """What a row of a file says."""
        mapping = self._mappings[file]
        written, resolution, *others = said.split(SENT_SEPARATOR)
        if mapping.columns is None:
            facts = self._model_facts(mapping, written) | (json.loads(others[0]) if others[0] else {})
            return Saying(written or None, facts)
        facts = self._model_facts(mapping, written)
        if resolution:
            names = mapping.columns.resolution.names if mapping.columns.resolution else {}
            facts["resolution"] = _named(names, resolution) or folded(resolution)
        unknown = {}
        for entry, text in zip(mapping.columns.facts, others, strict=False):
            told = _named(entry.means, text)
            if told is None and text:
                unknown[entry.column] = text
            facts |= told or {}
        return Saying(written or None, facts, unknown)

    def _model_facts(self, mapping: StatementFile, written: str) -> dict[str, Any]:
        """What a model's name tells."""
        if mapping.columns is None:
            names_of = [mapping.answers.wire_format] if mapping.answers else []
            return self._facts_of_name(names_of, written)
        entry = mapping.columns.model
        if entry is None:
            return {}
        own = _named(entry.names, written)
        return dict(own) if own is not None else self._facts_of_name(entry.names_of, written)

    def _facts_of_name(self, names_of: Iterable[str], written: str) -> dict[str, Any]:
        for wire_format in names_of:
            for name, (model, implied) in self._book.matrices[wire_format].names.items():
                if folded(name) == folded(written):
                    return {**implied, "model": model}
        return {}


def _named(names: Mapping[str, Any], written: str) -> Any:
    return next((value for name, value in names.items() if folded(name) == folded(written)), None)


def write_sayings(workspace: Workspace, reading: RowReading, table: PriceTable) -> None:
    """Makes the table `saying`: what each different text in `charge.said` means.

    Args:
        workspace: where that is.
        reading: reads it.
        table: the price table whose tiers are told.
    """
    workspace.run(
        "CREATE TABLE saying (file USMALLINT, said VARCHAR, model VARCHAR, written VARCHAR, resolution VARCHAR,"
        " tier VARCHAR, unknown VARCHAR)"
    )
    rows = []
    for file, said in workspace.rows(
        "SELECT DISTINCT file, said FROM charge WHERE problem IS NULL ORDER BY ALL"
    ):
        saying = reading.saying(file, said)
        resolution = None if saying.resolution == ANY else saying.resolution
        unknown = SENT_SEPARATOR.join(part for pair in saying.unknown.items() for part in pair) or None
        rows.append((file, said, saying.model, saying.written, resolution, saying.tier(table), unknown))
    workspace.insert("saying", rows)
