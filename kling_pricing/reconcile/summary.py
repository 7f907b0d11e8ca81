"""A reconciliation in a few lines: for a person, for a notebook, and as data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from kling_pricing.display import html_table, json_text
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.model import Dimension, Payable, Total


class Summarised(Protocol):
    """The parts of a reconciliation that its summary reads."""

    provider: str
    account: str
    since: datetime
    until: datetime
    exceptions: int
    open: int
    in_dispute: int
    gaps: tuple[str, ...]

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines."""

    def payable(self) -> list[Payable]:
        """Returns the amounts to pay, in dispute and to accrue."""


class ReconciliationSummary:
    """The summary of a reconciliation. `Reconciliation` inherits it."""

    def __repr__(self: Summarised) -> str:
        return f"<Reconciliation {period_text(self)}: {verdict(self)}>"

    def as_dict(self: Summarised, *, decimals: bool = False) -> dict[str, Any]:
        """Returns the result as data: the totals by currency, and the amounts to pay, in dispute and to accrue.

        Args:
            decimals: whether amounts are `Decimal`s; otherwise they are text in plain decimal notation, and the
                data is JSON-ready.
        """
        return {
            "provider": self.provider,
            "account": self.account,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "exceptions": self.exceptions,
            "open": self.open,
            "in_dispute": self.in_dispute,
            "gaps": [*self.gaps],
            "totals": _dicts(self.totals("all"), decimals=decimals),
            "payable": _dicts(self.payable(), decimals=decimals),
        }

    def as_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json_text(self.as_dict())  # type: ignore[misc]

    def _repr_html_(self: Summarised) -> str:
        """Returns the result as a table for a notebook."""
        rows = []
        for total in self.totals("all"):
            rows += [
                (name, f"{format_decimal(amount)} {total.currency}")
                for name, amount in (
                    ("expected", total.expected),
                    ("variance", total.variance),
                    ("billed", total.billed),
                )
            ]
        return html_table(period_text(self), rows, note=verdict(self))


def period_text(result: Summarised) -> str:
    """Returns whose statement of which period was reconciled."""
    account = "" if result.account == result.provider else f", account {result.account}"
    return f"{result.provider}{account}, {result.since:%Y-%m-%d} to {result.until:%Y-%m-%d} (exclusive)"


def verdict(result: Summarised) -> str:
    """Returns whether the period is reconciled, and what is left to do."""
    state = "not reconciled" if result.gaps else "reconciled"
    noun = "exception" if result.exceptions == 1 else "exceptions"
    disputed = f" and {result.in_dispute} in dispute" if result.in_dispute else ""
    exceptions = f"{result.exceptions} {noun}, {result.open} of them open{disputed}"
    return "; ".join([f"{state}, {exceptions}", *result.gaps])


def _dicts(rows: Sequence[Total | Payable], *, decimals: bool) -> list[dict[str, Any]]:
    return [
        {
            name: format_decimal(value) if isinstance(value, Decimal) and not decimals else value
            for name, value in row._asdict().items()
        }
        for row in rows
    ]
