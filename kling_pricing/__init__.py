"""Know what a Kling video job will cost before it is submitted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kling_pricing.endpoints import Endpoint
from kling_pricing.errors import (
    CapabilityError,
    KlingPricingError,
    PriceNotFoundError,
    TableError,
    WireFormatError,
)
from kling_pricing.findings import Note, Violation
from kling_pricing.media import MediaFacts
from kling_pricing.price_table import PriceBook
from kling_pricing.quotes import LineItem, Quote
from kling_pricing.quoting import check, quote

if TYPE_CHECKING:
    from kling_pricing.comparison import Option, compare
    from kling_pricing.tables import load_price_book

__version__ = "0.1.0"

__all__ = [
    "CapabilityError",
    "Endpoint",
    "KlingPricingError",
    "LineItem",
    "MediaFacts",
    "Note",
    "Option",
    "PriceBook",
    "PriceNotFoundError",
    "Quote",
    "TableError",
    "Violation",
    "WireFormatError",
    "check",
    "compare",
    "load_price_book",
    "quote",
]


_LAZY = {"load_price_book": "tables", "Option": "comparison", "compare": "comparison"}


def __getattr__(name: str) -> Any:
    """Imports what quoting does without when it is first asked for: tables need YAML and pydantic."""
    if name in _LAZY:
        return getattr(import_module(f"kling_pricing.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
