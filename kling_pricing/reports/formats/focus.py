"""Charges in FOCUS 1.2 and 1.3, the FinOps Open Cost and Usage Specification: one row per charged task.

FOCUS 1.3 names the provider in two more columns; the two of FOCUS 1.2 are deprecated there, and still required.

`BilledCost` is the provider's charge. `ContractedCost` is the quote, and `ListCost` the quote at the published
prices: both are a unit price times the same quantity, whatever was billed.
Data without a column in FOCUS comes last, in columns that begin with `x_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from csv import writer
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, Inexact
from itertools import tee
from operator import itemgetter
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

from kling_pricing.money import MAX_DECIMALS, divide, format_decimal, multiply
from kling_pricing.reports.document import Cell as ReportCell
from kling_pricing.reports.document import Column, Row
from kling_pricing.reports.formats import csv, parquet
from kling_pricing.reports.formatting import decimals_of, labels_text, safe, safe_or_none, safe_text
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Cell
from kling_pricing.temporary import temporary_folder

SERVICE = "Kling video generation"

_TASKS = "Tasks"
"""The pricing unit of a charge that has no unit price."""


class FocusCharge(NamedTuple):
    """One task that was charged.

    Attributes:
        provider: who charged it.
        account: the account at the provider that was charged.
        task_id: the provider's name for it.
        billed: the charge.
        expected: the expected charge; None if it is not known.
        quoted: the quote of its reservation, in `currency`; None: it has no reservation in that currency.
        list_total: under a contract, that quote at the published prices; None: there is no contract, or the
            reservation did not keep it.
        currency: of both.
        at: when it was submitted, else charged, UTC.
        model: canonical name.
        resolution: as quoted.
        tier: as quoted.
        quantity: units, as quoted.
        unit: of the quantity.
        table: id of the price table.
        labels: of its reservation.
        project: whose it is.
        reservation_id: the ledger's name for it.
        standing: the category of its line, or the basis of its amount.
        cause: the explanation of a variance.
        invoice_id: the number of its invoice; None: unknown.
        is_correction: whether it corrects a charge of a period that was invoiced before.
    """

    provider: str
    account: str
    task_id: str | None
    billed: Decimal
    expected: Decimal | None
    quoted: Decimal | None
    list_total: Decimal | None
    currency: str
    at: datetime
    model: str | None
    resolution: str | None
    tier: str | None
    quantity: Decimal | None
    unit: str | None
    table: str | None
    labels: Mapping[str, str]
    project: str | None
    reservation_id: str | None
    standing: str
    cause: str | None
    invoice_id: str | None = None
    is_correction: bool = False


class BillingPeriod(NamedTuple):
    """The billing period, half-open, UTC."""

    start: datetime
    end: datetime


class _Price(NamedTuple):
    """How a charge is priced: units, and the unit price agreed on and published."""

    quantity: Decimal
    unit: str
    contracted: Decimal
    listed: Decimal


_COLUMNS = (
    Column("BilledCost", "Billed cost", "amount"),
    Column("BillingAccountId", "Billing account"),
    Column("BillingAccountName", "Name of the billing account"),
    Column("BillingCurrency", "Billing currency"),
    Column("BillingPeriodEnd", "End of the billing period", "instant"),
    Column("BillingPeriodStart", "Start of the billing period", "instant"),
    Column("ChargeCategory", "Charge category"),
    Column("ChargeClass", "Charge class"),
    Column("ChargeDescription", "Charge description"),
    Column("ChargeFrequency", "Charge frequency"),
    Column("ChargePeriodEnd", "End of the charge period", "instant"),
    Column("ChargePeriodStart", "Start of the charge period", "instant"),
    Column("CommitmentDiscountStatus", "Status of the commitment discount"),
    Column("ConsumedQuantity", "Consumed quantity", "quantity"),
    Column("ConsumedUnit", "Consumed unit"),
    Column("ContractedCost", "Contracted cost", "amount"),
    Column("ContractedUnitPrice", "Contracted unit price", "amount"),
    Column("EffectiveCost", "Effective cost", "amount"),
    Column("HostProviderName", "Host provider"),
    Column("InvoiceId", "Invoice"),
    Column("InvoiceIssuerName", "Invoice issuer"),
    Column("ListCost", "List cost", "amount"),
    Column("ListUnitPrice", "List unit price", "amount"),
    Column("PricingCategory", "Pricing category"),
    Column("PricingCurrency", "Pricing currency"),
    Column("PricingCurrencyContractedUnitPrice", "Contracted unit price, pricing currency", "amount"),
    Column("PricingCurrencyEffectiveCost", "Effective cost, pricing currency", "amount"),
    Column("PricingCurrencyListUnitPrice", "List unit price, pricing currency", "amount"),
    Column("PricingQuantity", "Pricing quantity", "quantity"),
    Column("PricingUnit", "Pricing unit"),
    Column("ProviderName", "Provider"),
    Column("PublisherName", "Publisher"),
    Column("ResourceId", "Resource"),
    Column("ResourceName", "Name of the resource"),
    Column("ResourceType", "Type of the resource"),
    Column("ServiceCategory", "Service category"),
    Column("ServiceName", "Service"),
    Column("ServiceProviderName", "Service provider"),
    Column("ServiceSubcategory", "Service subcategory"),
    Column("SkuId", "SKU"),
    Column("SkuMeter", "SKU meter"),
    Column("SkuPriceDetails", "SKU price details"),
    Column("SkuPriceId", "SKU price"),
    Column("Tags", "Tags"),
    Column("x_Cause", "Cause"),
    Column("x_ExpectedCost", "Expected cost", "amount"),
    Column("x_PriceTable", "Price table"),
    Column("x_Project", "Project"),
    Column("x_ReservationId", "Reservation"),
    Column("x_Standing", "Standing"),
)


_SINCE_1_3 = {"HostProviderName", "ServiceProviderName"}

VERSIONS: Mapping[str, tuple[Column, ...]] = {
    "focus": tuple(column for column in _COLUMNS if column.name not in _SINCE_1_3),
    "focus_1_3": _COLUMNS,
}
"""Name of the files of a version -> its columns; `focus` is FOCUS 1.2."""

_NAMES = [column.name for column in _COLUMNS]


def write(
    charges: Callable[[], Iterable[FocusCharge]],
    period: BillingPeriod,
    book: PriceBook,
    billing_account: str | None,
    folder: Path,
) -> None:
    """Writes `focus.csv`, `focus.parquet`, `focus_1_3.csv` and `focus_1_3.parquet`; reads the charges once.

    Args:
        charges: returns the charges.
        period: the billing period.
        book: the tables that they were quoted by, for the published prices.
        billing_account: the provider's name for the account; None: the account of each charge.
        folder: where to write.
    """
    tables = {
        table.id: table
        for kind in (book.tables, book.contracts)
        for periods in kind.values()
        for table in periods
    }
    with ExitStack() as open_files:
        work = open_files.enter_context(temporary_folder("kling-pricing-focus-", gettempdir()))
        lines = work / "rows.jsonl"
        exact_lines = open_files.enter_context(lines.open("w", encoding="utf-8", newline="\n"))
        writers = []
        for name, columns in VERSIONS.items():
            file = open_files.enter_context((folder / f"{name}.csv").open("w", encoding="utf-8", newline=""))
            write_row = writer(file).writerow
            write_row([column.name for column in columns])
            writers.append((itemgetter(*map(_COLUMNS.index, columns)), write_row))
        rows, same_rows = tee(
            _row(charge, period, tables.get(charge.table or ""), billing_account or safe(charge.account))
            for charge in charges()
        )
        for row, line in zip(
            csv.csv_rows(_COLUMNS, rows, _decimal_text), parquet.exact_lines(_COLUMNS, same_rows), strict=True
        ):
            for columns_of, write_row in writers:
                write_row(columns_of(row))
            exact_lines.write(line)
        exact_lines.close()
        for name, columns in VERSIONS.items():
            parquet.copy_lines(columns, lines, folder / f"{name}.parquet")


def _row(charge: FocusCharge, period: BillingPeriod, table: PriceTable | None, account: str) -> Row:
    start = datetime.combine(charge.at.astimezone(UTC).date(), time(), UTC)
    sku = " ".join(part for part in (charge.model, charge.resolution, charge.tier) if part)
    values: dict[str, ReportCell] = {
        "BilledCost": charge.billed,
        "BillingAccountId": account,
        "BillingCurrency": charge.currency,
        "BillingPeriodEnd": period.end,
        "BillingPeriodStart": period.start,
        "ChargeClass": "Correction" if charge.is_correction else None,
        "ChargeDescription": safe(sku) or "a task",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": start + timedelta(days=1),
        "ChargePeriodStart": start,
        "EffectiveCost": charge.billed,
        "HostProviderName": charge.provider,
        "InvoiceId": safe_or_none(charge.invoice_id),
        "InvoiceIssuerName": charge.provider,
        "PricingCurrency": charge.currency,
        "PricingCurrencyEffectiveCost": charge.billed,
        "ProviderName": charge.provider,
        "PublisherName": charge.provider,
        "ResourceId": safe_or_none(charge.task_id),
        "ResourceType": None if charge.task_id is None else "Video task",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": SERVICE,
        "ServiceProviderName": charge.provider,
        "ServiceSubcategory": "Generative AI",
        "Tags": safe(labels_text(charge.labels)) or None,
        "x_Cause": safe_text(charge.cause or ""),
        "x_ExpectedCost": charge.expected,
        "x_PriceTable": charge.table,
        "x_Project": safe_or_none(charge.project),
        "x_ReservationId": charge.reservation_id,
        "x_Standing": charge.standing,
        **(_credit(charge) if charge.billed < 0 else _usage(charge, table, safe(sku) or "unknown")),
    }
    return tuple(map(values.get, _NAMES))


def _credit(charge: FocusCharge) -> dict[str, ReportCell]:
    """What was given back: it has no units."""
    return {"ChargeCategory": "Credit", "ContractedCost": charge.billed, "ListCost": charge.billed}


def _usage(charge: FocusCharge, table: PriceTable | None, sku: str) -> dict[str, ReportCell]:
    """What was made, in units and at unit prices."""
    price = _priced(charge, table)
    return {
        "ChargeCategory": "Usage",
        "ConsumedQuantity": price.quantity,
        "ConsumedUnit": price.unit,
        "ContractedCost": multiply(price.contracted, price.quantity),
        "ContractedUnitPrice": price.contracted,
        "ListCost": multiply(price.listed, price.quantity),
        "ListUnitPrice": price.listed,
        "PricingCategory": "Standard",
        "PricingCurrencyContractedUnitPrice": price.contracted,
        "PricingCurrencyListUnitPrice": price.listed,
        "PricingQuantity": price.quantity,
        "PricingUnit": price.unit,
        "SkuId": sku,
        "SkuMeter": f"Generated video, {price.unit.lower()}",
        "SkuPriceId": f"{charge.table or 'unknown'}: {sku}",
    }


def _priced(charge: FocusCharge, table: PriceTable | None) -> _Price:
    """Prices a charge by the unit if exact unit prices make the quote and its list price, else by the task.

    The quote is also the price of a task that was expected to cost nothing because it failed or was written
    off, and of a task of two reservations, for which both quotes were expected. Any other expected amount is
    itself the price.
    """
    if charge.expected is None or charge.quoted is None or not charge.quantity or not charge.unit:
        amount = charge.billed if charge.expected is None else charge.expected
        return _Price(Decimal(1), _TASKS, amount, amount)
    if charge.expected in {Decimal(0), charge.quoted} or charge.standing == "reserved_twice":
        contracted = charge.quoted
        listed = contracted if charge.list_total is None else charge.list_total
        if charge.list_total is None and table is not None:
            listed = _published(charge, charge.quantity, table) or contracted
    else:
        contracted = listed = charge.expected
    with suppress(Inexact):
        prices = divide(contracted, charge.quantity), divide(listed, charge.quantity)
        if max(map(decimals_of, prices)) <= MAX_DECIMALS:
            return _Price(charge.quantity, _unit(charge.unit), *prices)
    return _Price(Decimal(1), _TASKS, contracted, listed)


def _published(charge: FocusCharge, quantity: Decimal, table: PriceTable) -> Decimal | None:
    """Returns a quote at the published prices, for a reservation that did not keep it; None: no contract."""
    cell = Cell(charge.model or "", charge.resolution or "", charge.tier or "")
    rate = None if table.contract is None else table.contract.list_rates.get(cell)
    return None if rate is None else multiply(rate.unit_price, quantity)


def _unit(unit: str) -> str:
    """A unit as FOCUS writes it: `second` is `Seconds`, `5 seconds` is `5 Seconds`."""
    words = unit.split()
    return " ".join([*words[:-1], words[-1].removesuffix("s").capitalize() + "s"])


def _decimal_text(number: Decimal) -> str:
    """A number that is seen to be a decimal: `6.0`, not `6`."""
    text = format_decimal(number)
    return text if "." in text else f"{text}.0"
