"""`kling-pricing report`: reports the spend from the ledger, without a provider's statement."""

from __future__ import annotations

import sys
from datetime import date, datetime
from decimal import Decimal

import click
from rich.table import Column as Heading
from rich.table import Table

from kling_pricing.cli.booking_options import accounts_option, accounts_schema_option, no_bom_option
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import fail
from kling_pricing.cli.ledger_options import json_option, ledger_option, read_account
from kling_pricing.cli.options import refuse_without_folder, tables_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.period import as_of_option, chosen_period, end_of, period_options
from kling_pricing.cli.terminal import wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.reports import (
    SPEND_FORMATS,
    AccountsFile,
    Format,
    Spend,
    read_spend,
    spend_document,
    write_spend,
)
from kling_pricing.reports.chargeback import DEFAULT_LABELS, Chargeback, require_labels
from kling_pricing.reports.document import Cell, Section
from kling_pricing.reports.formats.json import as_data
from kling_pricing.reports.formatting import counted, number_text
from kling_pricing.tables.price_book import PriceBook

_PRINTED_TABLE = "by_project_and_model"


@click.command(
    "report", epilog=exit_codes_help(unreadable="bad usage, or the ledger or the folder cannot be used")
)
@ledger_option
@click.option("--project", help="Report only this project. Default: all projects.")
@click.option(
    "--account",
    metavar="NAME",
    callback=read_account,
    help="Report only this account. Default: all accounts.",
)
@period_options(current=True)
@as_of_option(
    "Report the ledger as it stood at this time (ISO 8601; a day includes the whole day). Later entries do not "
    "count. Default: now."
)
@click.option("--out", metavar="FOLDER", help="Write the report files to this folder.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(SPEND_FORMATS),
    help="Report format. Repeat the option for several formats. Default: all formats.",
)
@click.option(
    "--billing-account",
    help="The provider's name for your account, for the FOCUS file. Default: the account of each job.",
)
@no_bom_option
@accounts_option
@accounts_schema_option
@click.option(
    "--by",
    "by_labels",
    metavar="LABEL",
    multiple=True,
    help="Label for the chargeback table, such as user or team. Repeat the option for several labels. Default: "
    "user.",
)
@tables_option
@json_option
def report_command(
    ledger: str,
    project: str | None,
    account: str | None,
    month: str | None,
    since: date | datetime | None,
    until: date | datetime | None,
    timezone: str,
    as_of: date | datetime | None,
    out: str | None,
    formats: tuple[Format, ...],
    billing_account: str | None,
    no_bom: bool,
    accounts: AccountsFile | None,
    by_labels: tuple[str, ...],
    book: PriceBook,
    as_json: bool,
) -> None:
    """Report a month's spend from the ledger.

    The report does not need a provider's statement. As in budgets, a job counts towards the month in which its
    money was reserved. An amount is provisional if its job is settled at the quoted price because the charge
    is not known yet. An amount is held if its job is not settled yet.

    With --as-of, the report is the one that the command would have given at that time, and the default month is
    the month of that time.

    With --out, the command writes an HTML page with charts, including a burn-down chart for each budget. The
    command also writes an XLSX workbook and CSV, Parquet, JSON and FOCUS files. manifest.json lists the
    SHA-256 digests of all files.

    With --by, the table `chargeback` adds up the spend by project and by these labels. With --accounts, it also
    has the cost centre.

    \b
    Examples:
      kling-pricing report --month 2026-11
      kling-pricing report --project trailer --out reports/2026-11
      kling-pricing report --by team --by user --month 2026-11 --out november
      kling-pricing report --month 2026-11 --as-of 2026-11-30
    """
    refuse_without_folder(
        out,
        format=formats,
        billing_account=billing_account,
        no_bom=no_bom or None,
    )
    chargeback = Chargeback(by_labels or DEFAULT_LABELS, accounts or AccountsFile())
    try:
        known_at = None if as_of is None else end_of(as_of, timezone)
        start, end = chosen_period(month, since, until, timezone, current=True, as_of=known_at)
        spent = read_spend(
            ledger, start, end, project=project, account=account, as_of=known_at, timezone=timezone
        )
        require_labels(spent.jobs, by_labels)
        if out is not None:
            _write(spent, out, formats or SPEND_FORMATS, book, billing_account, chargeback, bom=not no_bom)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    _show(spent, chargeback, as_json=as_json)


def _write(
    spent: Spend,
    out: str,
    formats: tuple[Format, ...],
    book: PriceBook,
    billing_account: str | None,
    chargeback: Chargeback,
    *,
    bom: bool,
) -> None:
    with click.progressbar(length=len(formats), label="Writing", file=sys.stderr) as bar:
        manifest = write_spend(
            spent,
            out,
            formats=formats,
            book=book,
            billing_account=billing_account,
            chargeback=chargeback,
            bom=bom,
            on_format=lambda _: bar.update(1),
        )
    echo(f"wrote {counted(len(manifest.files), 'file')} and manifest.json to {out}", err=True)


def _show(spent: Spend, chargeback: Chargeback, *, as_json: bool) -> None:
    document = spend_document.document(spent, chargeback)
    if as_json:
        echo(to_json(as_data(document)))
        return
    echo(f"{document.title}: {document.verdict.headline[0].lower()}{document.verdict.headline[1:]}")
    echo(document.verdict.about)
    for section in document.sections:
        if section.name == _PRINTED_TABLE or (section.name == "chargeback" and chargeback.is_chosen):
            _show_table(section)


def _show_table(section: Section) -> None:
    rows = [*section.rows()]
    if not rows:
        return
    grid = Table(
        *(
            Heading(column.title, justify="right" if column.is_number else "left", overflow="fold")
            for column in section.columns
        )
    )
    for row in [*rows, *section.totals]:
        grid.add_row(*map(_text, row))
    wide_console().print(grid)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return number_text(cell) if isinstance(cell, int | Decimal) else str(cell)
