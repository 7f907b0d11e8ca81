"""The columns of files with results, and the cells of each result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kling_pricing.cli.wording import with_options
from kling_pricing.errors import KlingPricingError
from kling_pricing.findings import Violation
from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import Quote
from kling_pricing.shot_lists.fitting import FittedShot
from kling_pricing.shot_lists.list_writers import ResultCell, ResultColumn
from kling_pricing.shot_lists.summaries import reasons_of

if TYPE_CHECKING:
    from kling_pricing.guard import Decision  # slow to import

_MAX_KNOWN = 8192
_ERROR = ("error_codes", "error", "suggestions")


def _error_cells(error: KlingPricingError) -> list[ResultCell]:
    suggestions = [dict(suggestion) for suggestion in getattr(error, "suggestions", ())]
    return [
        "; ".join(reasons_of(error)),
        with_options(str(error)),
        json.dumps(suggestions, ensure_ascii=False) if suggestions else "",
    ]


class QuoteForm:
    """The results of `quote`; a range has no total."""

    prefix = "quote_"
    columns: Sequence[ResultColumn] = (
        ResultColumn("quote_total", "amount"),
        ResultColumn("quote_minimum", "amount"),
        ResultColumn("quote_maximum", "amount"),
        *map(
            ResultColumn,
            (
                *("quote_currency", "quote_provider", "quote_model", "quote_wire_format", "quote_action"),
                *("quote_resolution", "quote_tier", "quote_quantity", "quote_unit"),
            ),
        ),
        ResultColumn("quote_unit_price", "amount"),
        *map(ResultColumn, ("quote_table", "quote_notes", *(f"quote_{name}" for name in _ERROR))),
    )

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, Sequence[ResultCell]]] = {}

    def cells(self, outcome: Quote | KlingPricingError) -> Sequence[ResultCell]:
        """See `ResultForm.cells`. Equal rows of a list share a quote, so the cells of each quote are kept."""
        known = self._known.get(id(outcome))
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[id(outcome)] = outcome, self._cells(outcome)
        return known[1]

    def _cells(self, outcome: Quote | KlingPricingError) -> Sequence[ResultCell]:
        if isinstance(outcome, KlingPricingError):
            empty: list[ResultCell] = [None] * (len(self.columns) - len(_ERROR))
            return [*empty, *_error_cells(outcome)]
        notes = " | ".join(with_options(note.message) for note in outcome.notes)
        return [
            outcome.maximum if outcome.minimum == outcome.maximum else None,
            outcome.minimum,
            outcome.maximum,
            *(outcome.currency, outcome.provider, outcome.canonical_model, outcome.wire_format),
            *(outcome.action, outcome.resolution, outcome.tier),
            *(format_decimal(outcome.quantity), outcome.unit, outcome.unit_price),
            *(outcome.table.id, notes),
            *[None] * len(_ERROR),
        ]


class CheckForm:
    """The results of `check`."""

    prefix = "check_"
    columns: Sequence[ResultColumn] = tuple(
        map(ResultColumn, ("check_valid", "check_error_codes", "check_error"))
    )

    def cells(self, outcome: Sequence[Violation] | KlingPricingError) -> Sequence[ResultCell]:
        """See `ResultForm.cells`."""
        if isinstance(outcome, KlingPricingError):
            return ["false", *_error_cells(outcome)[:-1]]
        return ["true", None, None]


class FitResult(NamedTuple):
    """What `fit` decides about a shot, and the currency of its price."""

    decision: FittedShot
    currency: str


class FitForm:
    """The results of `fit`."""

    prefix = "fit_"
    columns: Sequence[ResultColumn] = (
        ResultColumn("fit_outcome"),
        ResultColumn("fit_amount", "amount"),
        *map(ResultColumn, ("fit_currency", "fit_duration_s", *(f"fit_{name}" for name in _ERROR))),
    )

    def cells(self, outcome: FitResult | KlingPricingError) -> Sequence[ResultCell]:
        """See `ResultForm.cells`."""
        if isinstance(outcome, KlingPricingError):
            return ["refused", None, None, None, *_error_cells(outcome)]
        fits, amount, duration_s = outcome.decision
        return [
            *("fits" if fits else "left_out", amount, outcome.currency),
            None if duration_s is None else str(duration_s),
            *[None] * len(_ERROR),
        ]


class DecideForm:
    """The results of `decide`."""

    prefix = "decide_"
    columns: Sequence[ResultColumn] = (
        ResultColumn("decide_outcome"),
        ResultColumn("decide_reserved", "amount"),
        *map(ResultColumn, ("decide_currency", "decide_changes", *(f"decide_{name}" for name in _ERROR))),
    )

    def cells(self, outcome: Decision | KlingPricingError) -> Sequence[ResultCell]:
        """See `ResultForm.cells`."""
        if isinstance(outcome, KlingPricingError):
            return ["refused", None, None, None, *_error_cells(outcome)]
        changes = json.dumps(dict(outcome.changes)) if outcome.changes else None
        return [
            *(outcome.outcome, outcome.reserved, outcome.quote.currency, changes),
            *[None] * len(_ERROR),
        ]
