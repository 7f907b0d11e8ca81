"""Reports on a reconciliation, or on the spend that a ledger records.

Each report is first a document (`document`), built from a reconciliation (`reconciliation_document`) or from a
ledger alone (`spend_document`); then each output format (`formats/`) prints that document.
The same input always gives the same bytes: nothing here depends on the current time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from kling_pricing.reconcile.model import Reconciled
from kling_pricing.reports import disputes, focus_charges, reconciliation_document, spend, spend_document
from kling_pricing.reports.accounts_file import AccountsFile, accounts_schema, load_accounts
from kling_pricing.reports.booked_journal import NO_BOOKING, Booking
from kling_pricing.reports.chargeback import USUAL_CHARGEBACK, Chargeback
from kling_pricing.reports.exchange_rates import ExchangeRates, exchange_rates_schema, load_exchange_rates
from kling_pricing.reports.formats import focus
from kling_pricing.reports.kept_rows import KeptLines
from kling_pricing.reports.manifest import Manifest
from kling_pricing.reports.spend import Spend, read_spend
from kling_pricing.reports.writers import FORMATS, SPEND_FORMATS, Format, OnFormat, select_formats, write_all
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.temporary import temporary_folder

__all__ = [
    "FORMATS",
    "SPEND_FORMATS",
    "AccountsFile",
    "Booking",
    "Chargeback",
    "ExchangeRates",
    "Format",
    "Manifest",
    "Spend",
    "accounts_schema",
    "exchange_rates_schema",
    "load_accounts",
    "load_exchange_rates",
    "read_spend",
    "write_reports",
    "write_spend",
]


def write_reports(
    reconciled: Reconciled,
    out_dir: str | os.PathLike[str],
    *,
    formats: Iterable[Format] = FORMATS,
    book: PriceBook | None = None,
    billing_account: str | None = None,
    booking: Booking = NO_BOOKING,
    bom: bool = True,
    on_format: OnFormat | None = None,
) -> Manifest:
    """Writes the reports of a reconciliation into a folder, all of them or none.

    Args:
        reconciled: the reconciliation.
        out_dir: the folder, created if it is missing. Files of an earlier report in it are replaced.
        formats: the formats to write: `html`, `xlsx`, `csv`, `parquet`, `json`, `disputes`, `focus`.
        book: the price tables used for the quotes, for the published prices in FOCUS; by default the bundled
            tables and those of `KLING_PRICING_TABLES`.
        billing_account: the provider's name for your account, for FOCUS; by default, the account of each job.
        booking: your accounts and exchange rates, for the journal.
        bom: whether CSV files, but for FOCUS, begin with a byte order mark, which Excel needs to read UTF-8.
        on_format: called with the name of each format before it is written.

    Returns:
        The files with their SHA-256, as in `manifest.json`.

    Raises:
        KlingPricingError: the totals do not tie out, an exchange rate is missing, a format is unknown or not
            installed, or the folder cannot be written; the folder is as it was.
    """
    selected = select_formats(formats, FORMATS)
    with temporary_folder("kling-pricing-lines-", gettempdir()) as folder:
        kept = KeptLines(reconciled, folder) if len(selected) > 1 else reconciled
        return write_all(
            out_dir,
            selected,
            reconciliation_document.document(kept, booking),
            sources=reconciled.statements,
            special_writers={
                "disputes": partial(disputes.write, kept, bom=bom),
                "focus": _focus_writer(
                    partial(focus_charges.charges, kept),
                    focus.BillingPeriod(reconciled.since, reconciled.until),
                    book,
                    billing_account,
                ),
            },
            options={"csv": {"bom": bom}},
            on_format=on_format,
        )


def write_spend(
    spent: Spend,
    out_dir: str | os.PathLike[str],
    *,
    formats: Iterable[Format] = SPEND_FORMATS,
    book: PriceBook | None = None,
    billing_account: str | None = None,
    chargeback: Chargeback = USUAL_CHARGEBACK,
    bom: bool = True,
    on_format: OnFormat | None = None,
) -> Manifest:
    """Writes a spend statement, from the ledger alone, into a folder, all of its files or none.

    Args:
        spent: the result of `read_spend`.
        out_dir: as for `write_reports`.
        formats: the formats to write: `html`, `xlsx`, `csv`, `parquet`, `json`, `focus`.
        book: as for `write_reports`.
        billing_account: as for `write_reports`.
        chargeback: the labels by which the spend is added up, and the rules that give cost centres.
        bom: as for `write_reports`.
        on_format: as for `write_reports`.

    Raises:
        KlingPricingError: as for `write_reports`.
    """
    selected = select_formats(formats, SPEND_FORMATS)
    return write_all(
        out_dir,
        selected,
        spend_document.document(spent, chargeback),
        sources={},
        special_writers={
            "focus": _focus_writer(
                partial(spend.charges, spent),
                focus.BillingPeriod(spent.since, spent.until),
                book,
                billing_account,
            ),
        },
        options={"csv": {"bom": bom}},
        on_format=on_format,
    )


def _focus_writer(
    charges: Callable[[], Iterable[focus.FocusCharge]],
    period: focus.BillingPeriod,
    book: PriceBook | None,
    billing_account: str | None,
) -> Callable[[Path], None]:
    """Returns the function that writes FOCUS, and that reads the default price tables only then."""
    return lambda folder: focus.write(charges, period, book or default_price_book(), billing_account, folder)
