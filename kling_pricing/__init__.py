"""Quotes Kling video jobs before you submit them, and keeps spending within budgets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kling_pricing.errors import (
    BudgetError,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetWeakenedError,
    CapabilityError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceNotFoundError,
    ReceiverError,
    ReservationNotFoundError,
    ReservationStateError,
    StatementError,
    TableError,
    WebhookError,
    WireFormatError,
)
from kling_pricing.findings import Note, Violation
from kling_pricing.quoting.engine import check, quote
from kling_pricing.quoting.quote import Quote
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.rates import LineItem
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.media import MediaFacts

if TYPE_CHECKING:
    from kling_pricing.budgets import Budget, Budgets, load_budgets
    from kling_pricing.guard import Admission, BudgetGuard, BudgetPlan, Decision
    from kling_pricing.guard.async_guard import AsyncBudgetGuard
    from kling_pricing.guard.other_prices import reprice
    from kling_pricing.hooks.context import spending
    from kling_pricing.ledger.journal import Bucket, Entry, Observation
    from kling_pricing.ledger.model import Alert, Reservation
    from kling_pricing.quoting.comparison import Option, compare
    from kling_pricing.tables.loading.book import load_price_book

__version__ = "0.1.0"

__all__ = [
    "Admission",
    "Alert",
    "AsyncBudgetGuard",
    "Bucket",
    "Budget",
    "BudgetError",
    "BudgetExceededError",
    "BudgetFrozenError",
    "BudgetGuard",
    "BudgetPlan",
    "BudgetWeakenedError",
    "Budgets",
    "CapabilityError",
    "Decision",
    "Endpoint",
    "Entry",
    "IdempotencyError",
    "KlingPricingError",
    "LedgerError",
    "LedgerUnavailableError",
    "LineItem",
    "MediaFacts",
    "Note",
    "Observation",
    "Option",
    "PriceBook",
    "PriceNotFoundError",
    "Quote",
    "ReceiverError",
    "Reservation",
    "ReservationNotFoundError",
    "ReservationStateError",
    "StatementError",
    "TableError",
    "Violation",
    "WebhookError",
    "WireFormatError",
    "check",
    "compare",
    "load_budgets",
    "load_price_book",
    "quote",
    "reprice",
    "spending",
]


_LAZY = {
    "Admission": "guard",
    "Alert": "ledger.model",
    "AsyncBudgetGuard": "guard.async_guard",
    "Bucket": "ledger.journal",
    "Budget": "budgets",
    "BudgetGuard": "guard",
    "BudgetPlan": "guard",
    "Budgets": "budgets",
    "Decision": "guard",
    "Entry": "ledger.journal",
    "Observation": "ledger.journal",
    "Option": "quoting.comparison",
    "Reservation": "ledger.model",
    "compare": "quoting.comparison",
    "load_budgets": "budgets",
    "load_price_book": "tables.loading.book",
    "reprice": "guard.other_prices",
    "spending": "hooks.context",
}


def __getattr__(name: str) -> Any:
    """Imports a name on first use if it needs YAML, pydantic or SQLite, because quoting needs none of these."""
    if name in _LAZY:
        return getattr(import_module(f"kling_pricing.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
