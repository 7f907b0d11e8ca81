"""The settlement of many reservations in one transaction, which both stores implement. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple, Protocol

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Alert, Basis


class SettledBatch(NamedTuple):
    """The effect of settling a batch.

    Attributes:
        refused: reservation -> the error with which it was refused. All others are settled, or were already.
        alerts: the alerts that the batch caused, in the order in which they fired.
    """

    refused: Mapping[str, KlingPricingError]
    alerts: tuple[Alert, ...]


class Batches(Protocol):
    """The verbs of a ledger for many reservations."""

    def settle_all(self, amounts: Mapping[str, Decimal], basis: Basis) -> SettledBatch:
        """Settles each reservation at its amount, with the effects of calling `Ledger.settle` one by one.

        The entries in the journal are the same, in the same order, but for their common instant. Everything is
        one transaction. A refusal of one reservation does not affect the others.

        Args:
            amounts: id of each reservation -> its amount, in the order in which they are settled.
            basis: the basis of all amounts.
        """
