"""The facts of an upload: which month, provider and account, and how to read the files."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import exact_amount
from kling_pricing.reconcile.months import check_month
from kling_pricing.strict_yaml import FileModel
from kling_pricing.windows import zone

Action: TypeAlias = Literal["remember", "dispute", "settle", "close"]
"""What a person may do with a finished reconciliation."""

ACTIONS: tuple[Action, ...] = get_args(Action)

_Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _month(text: str) -> str:
    try:
        check_month(text)
    except KlingPricingError as error:
        raise ValueError(str(error)) from None
    return text


def _zone(name: str) -> str:
    try:
        zone(name)
    except KlingPricingError as error:
        raise ValueError(str(error)) from None
    return name


def _total(text: str) -> str:
    try:
        exact_amount(text)
    except KlingPricingError as error:
        raise ValueError(str(error)) from None
    return text


class RunRequest(FileModel):
    """The facts of an upload besides its files."""

    provider: _Word
    """The provider that issued the statement."""
    month: Annotated[str, AfterValidator(_month)]
    """The month, such as `2026-11`."""
    timezone: Annotated[_Word, AfterValidator(_zone)] = "UTC"
    """The IANA name of the time zone in which the month begins and ends. Only months in UTC can be closed."""
    account: _Word | None = None
    """The account at the provider. Default: the only one in the ledger."""
    mapping: _Word | None = None
    """The name of a bundled mapping. Default: the uploaded mapping, or else the one that fits the columns."""
    encoding: _Word | None = None
    """The encoding of text files."""
    replaces: _Word | None = None
    """The name or the digest of the remembered statement that the file corrects."""
    invoice_total: Annotated[_Word, AfterValidator(_total)] | None = None
    """The total of the invoice."""
    invoice_currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    """The currency of the invoice."""
    invoice_id: _Word | None = None
    """The number of the invoice."""

    @model_validator(mode="after")
    def _has_a_whole_invoice(self) -> RunRequest:
        if (self.invoice_total is None) != (self.invoice_currency is None):
            raise ValueError("an invoice needs both `invoice_total` and `invoice_currency`; give the other one")
        if self.invoice_id is not None and self.invoice_total is None:
            raise ValueError("`invoice_id` needs `invoice_total`; give the total of the invoice")
        return self
