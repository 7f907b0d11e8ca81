"""Reconciliation: what was expected against what the provider billed, every difference explained.

A statement of the provider and a ledger of ours become lines, one for each task; each line is in one category,
and the lines' variances sum to the difference of the two, exactly, or there is no report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kling_pricing.reconcile.model import Line, Reconciled, Rows, Tolerance, Total

if TYPE_CHECKING:
    from kling_pricing.reconcile.reconciliation import Reconciliation, reconcile
    from kling_pricing.reconcile.settle import Settled

__all__ = ["Line", "Reconciled", "Reconciliation", "Rows", "Settled", "Tolerance", "Total", "reconcile"]


def __getattr__(name: str) -> Any:
    """Imports what reports do without when it is first asked for."""
    if name in {"Reconciliation", "Settled", "reconcile"}:
        from kling_pricing.reconcile import reconciliation  # noqa: PLC0415

        return getattr(reconciliation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
