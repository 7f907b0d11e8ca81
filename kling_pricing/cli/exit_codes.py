"""The exit codes of the commands, and the exit code for each error class."""

from __future__ import annotations

from collections.abc import Mapping

from kling_pricing.errors import (
    BudgetExceededError,
    BudgetFrozenError,
    BudgetWeakenedError,
    CapabilityError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceNotFoundError,
    ReceiverError,
    WireFormatError,
)

DONE = 0
REFUSED = 1
"""The API, the guard or the ledger refuses a request, a checked file is invalid, or a comparison differs."""
UNREADABLE = 2
"""Bad usage, or an amount, name, date, file or ledger that cannot be read."""
INTERRUPTED = 130
"""Interrupted by Ctrl-C; shells use the same code."""

_CODES: Mapping[type, int] = {
    KlingPricingError: UNREADABLE,  # the base class itself is raised for invalid arguments
    WireFormatError: REFUSED,
    CapabilityError: REFUSED,
    PriceNotFoundError: REFUSED,
    BudgetExceededError: REFUSED,
    BudgetFrozenError: REFUSED,
    BudgetWeakenedError: REFUSED,
    LedgerError: REFUSED,
    LedgerUnavailableError: UNREADABLE,
    ReceiverError: REFUSED,
}
"""Error class -> exit code. A class that is not listed has the code of its nearest listed base class."""


def exit_code(error: KlingPricingError) -> int:
    """Returns the exit code of a command that fails with this error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def exit_codes_help(
    done: str = "done", refused: str | None = None, unreadable: str = "bad usage or unreadable input"
) -> str:
    """Returns the list of exit codes for a command's help; omits a code whose meaning is None."""
    meanings = {DONE: done, REFUSED: refused, UNREADABLE: unreadable}
    lines = (f"  {code}  {meaning}" for code, meaning in meanings.items() if meaning is not None)
    return "\b\nExit codes:\n" + "\n".join(lines)
