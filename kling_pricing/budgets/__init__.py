"""Budgets: which requests may spend how much, in which window, and what happens if a request does not fit."""

from kling_pricing.budgets.budgets_file import AccountingRate, BudgetsFile, Capping
from kling_pricing.budgets.differences import EVERYTHING, BudgetDifference, Consent, FieldDifference
from kling_pricing.budgets.entries import (
    ANY,
    EACH,
    MAX_LABEL_CHARS,
    MAX_LABELS,
    BudgetEntry,
)
from kling_pricing.budgets.loading import (
    BudgetsLike,
    budgets_file_schema,
    budgets_from_document,
    budgets_from_text,
    is_digest_of,
    load_budgets,
    read_budgets,
)
from kling_pricing.budgets.objects import Budget, Budgets
from kling_pricing.budgets.window_kinds import WINDOWS, FixedWindow, RollingWindow
from kling_pricing.budgets.writing import budgets_yaml

__all__ = [
    "ANY",
    "EACH",
    "EVERYTHING",
    "MAX_LABELS",
    "MAX_LABEL_CHARS",
    "WINDOWS",
    "AccountingRate",
    "Budget",
    "BudgetDifference",
    "BudgetEntry",
    "Budgets",
    "BudgetsFile",
    "BudgetsLike",
    "Capping",
    "Consent",
    "FieldDifference",
    "FixedWindow",
    "RollingWindow",
    "budgets_file_schema",
    "budgets_from_document",
    "budgets_from_text",
    "budgets_yaml",
    "is_digest_of",
    "load_budgets",
    "read_budgets",
]
