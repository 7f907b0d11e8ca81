"""Reconciliation: the expected amounts against the billed amounts, with every difference explained.

The provider's statement and our ledger become lines, one per task.
Each line is in one category, and the variances of the lines sum to the difference between the two sides
exactly, or there is no report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kling_pricing.reconcile.causes import Cause, exceptions_by_cause
from kling_pricing.reconcile.model import (
    Invoice,
    JournalLine,
    Line,
    Payable,
    Reconciled,
    Rows,
    Tolerance,
    Total,
)

if TYPE_CHECKING:
    from kling_pricing.reconcile.closing import MonthBooks, changed_months, close_month, closed_months
    from kling_pricing.reconcile.disputing import Dispute, list_disputes, open_dispute, resolve_dispute
    from kling_pricing.reconcile.mapping_draft import MappingAnswers, MappingDraft, draft_mapping
    from kling_pricing.reconcile.reconciliation import reconcile
    from kling_pricing.reconcile.remember import Remembered
    from kling_pricing.reconcile.result import Reconciliation
    from kling_pricing.reconcile.samples import SampleRow, StatementSample, sample_statement
    from kling_pricing.reconcile.settle import Settled, SettledTask
    from kling_pricing.reconcile.writing_off import WriteOff, write_off

__all__ = [
    "Cause",
    "Dispute",
    "Invoice",
    "JournalLine",
    "Line",
    "MappingAnswers",
    "MappingDraft",
    "MonthBooks",
    "Payable",
    "Reconciled",
    "Reconciliation",
    "Remembered",
    "Rows",
    "SampleRow",
    "Settled",
    "SettledTask",
    "StatementSample",
    "Tolerance",
    "Total",
    "WriteOff",
    "changed_months",
    "close_month",
    "closed_months",
    "draft_mapping",
    "exceptions_by_cause",
    "list_disputes",
    "open_dispute",
    "reconcile",
    "resolve_dispute",
    "sample_statement",
    "write_off",
]

_LAZY = {
    **dict.fromkeys(("Dispute", "list_disputes", "open_dispute", "resolve_dispute"), "disputing"),
    **dict.fromkeys(("MonthBooks", "changed_months", "close_month", "closed_months"), "closing"),
    **dict.fromkeys(("MappingAnswers", "MappingDraft", "draft_mapping"), "mapping_draft"),
    **dict.fromkeys(("SampleRow", "StatementSample", "sample_statement"), "samples"),
    "reconcile": "reconciliation",
    "Remembered": "remember",
    "Reconciliation": "result",
    **dict.fromkeys(("Settled", "SettledTask"), "settle"),
    **dict.fromkeys(("WriteOff", "write_off"), "writing_off"),
}
"""Public name -> its module in this folder. Reports need none of these modules, so they are imported lazily."""


def __getattr__(name: str) -> Any:
    """Imports the module of a name on first use."""
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
