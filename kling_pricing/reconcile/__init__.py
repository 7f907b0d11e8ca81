"""Reconciliation: the expected amounts against the billed amounts, with every difference explained.

The provider's statement and our ledger become lines, one per task.
Each line is in one category, and the variances of the lines sum to the difference between the two sides
exactly, or there is no report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kling_pricing.reconcile.model import Line, Reconciled, Rows, Tolerance, Total

if TYPE_CHECKING:
    from kling_pricing.reconcile.mapping_draft import MappingAnswers, MappingDraft, draft_mapping
    from kling_pricing.reconcile.reconciliation import Reconciliation, reconcile
    from kling_pricing.reconcile.samples import SampleRow, StatementSample, sample_statement
    from kling_pricing.reconcile.settle import Settled

__all__ = [
    "Line",
    "MappingAnswers",
    "MappingDraft",
    "Reconciled",
    "Reconciliation",
    "Rows",
    "SampleRow",
    "Settled",
    "StatementSample",
    "Tolerance",
    "Total",
    "draft_mapping",
    "reconcile",
    "sample_statement",
]


def __getattr__(name: str) -> Any:
    """Imports the reconciliation on first use; reports do not need it."""
    if name in {"Reconciliation", "Settled", "reconcile"}:
        from kling_pricing.reconcile import reconciliation  # noqa: PLC0415

        return getattr(reconciliation, name)
    if name in {"SampleRow", "StatementSample", "sample_statement"}:
        from kling_pricing.reconcile import samples  # noqa: PLC0415

        return getattr(samples, name)
    if name in {"MappingAnswers", "MappingDraft", "draft_mapping"}:
        from kling_pricing.reconcile import mapping_draft  # noqa: PLC0415

        return getattr(mapping_draft, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
