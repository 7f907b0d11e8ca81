"""The ledger that the environment names."""

from __future__ import annotations

import os

from kling_pricing.errors import LedgerUnavailableError

LEDGER_VARIABLE = "KLING_PRICING_LEDGER"
"""The environment variable with the URL of the ledger that is used where none is given."""


def ledger_url(url: str | None) -> str:
    """Returns a ledger's URL, or the value of `KLING_PRICING_LEDGER` if none is given.

    Raises:
        LedgerUnavailableError: no URL is given, and the variable is not set.
    """
    known = os.environ.get(LEDGER_VARIABLE) if url is None else url
    if known is None or known == "":
        raise LedgerUnavailableError(
            f"no ledger is given; pass its URL, such as sqlite:///spend.db, or set {LEDGER_VARIABLE}"
        )
    return known
