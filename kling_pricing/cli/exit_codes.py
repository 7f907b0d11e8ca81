"""The exit codes of every command, and the exit code of every error."""

from __future__ import annotations

from collections.abc import Mapping

from kling_pricing.errors import (
    BudgetExceededError,
    CapabilityError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceNotFoundError,
    WireFormatError,
)

DONE = 0
REFUSED = 1
"""The API, the guard or the ledger refuses, a checked file is invalid, or two sides differ."""
UNREADABLE = 2
"""Bad usage, or an input that cannot be read: an amount, a name, a date, a file or a ledger."""
INTERRUPTED = 130
"""Ctrl-C, as a shell expects it."""

_CODES: Mapping[type, int] = {
    KlingPricingError: UNREADABLE,  # the base itself stands for a bad argument
    WireFormatError: REFUSED,
    CapabilityError: REFUSED,
    PriceNotFoundError: REFUSED,
    BudgetExceededError: REFUSED,
    LedgerError: REFUSED,
    LedgerUnavailableError: UNREADABLE,
}
"""Error class -> exit code. A class that is not listed has the code of its nearest base."""


def exit_code(error: KlingPricingError) -> int:
    """Returns the exit code of a command that ends with this error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def exit_codes_help(
    done: str = "done", refused: str | None = None, unreadable: str = "bad usage or unreadable input"
) -> str:
    """Returns the closing paragraph of a command's help; None: the command refuses nothing."""
    meanings = {DONE: done, REFUSED: refused, UNREADABLE: unreadable}
    lines = (f"  {code}  {meaning}" for code, meaning in meanings.items() if meaning is not None)
    return "\b\nExit codes:\n" + "\n".join(lines)
