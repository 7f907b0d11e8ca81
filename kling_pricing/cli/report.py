"""`kling-pricing report`: a spend statement from the ledger alone."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import click
from rich.table import Column as Heading
from rich.table import Table

from kling_pricing.cli.failures import fail
from kling_pricing.cli.ledger_options import json_option, ledger_option
from kling_pricing.cli.options import instant_option, refuse_without_folder, tables_option
from kling_pricing.cli.output import to_json, wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.reports import SPEND_FORMATS, Format, Spend, read_spend, spend_document, write_spend
from kling_pricing.reports.document import Cell, Section
from kling_pricing.reports.formats.json import as_data
from kling_pricing.reports.formatting import counted, number_text
from kling_pricing.reports.spend import month_of, to_instant
from kling_pricing.tables.price_table import PriceBook

_PRINTED_TABLE = "by_project_and_model"


@click.command("report")
@ledger_option
@click.option("--project", help="The only project to report; by default all projects.")
@click.option("--month", metavar="YYYY-MM", help="The month to report; by default the current one.")
@instant_option("--from", "Start of the period, instead of --month", days=True)
@instant_option("--until", "End of the period, exclusive", days=True)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="Time zone in which days and months start, as an IANA name.",
)
@click.option("--out", metavar="FOLDER", help="Write report files into this folder.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(SPEND_FORMATS),
    help="Format of the files, by default all; repeat the option for several.",
)
@click.option(
    "--billing-account", help="Your account at the provider, for FOCUS; by default the name of the provider."
)
@tables_option
@json_option
def report_command(
    ledger: str,
    project: str | None,
    month: str | None,
    until: date | datetime | None,
    timezone: str,
    out: str | None,
    formats: tuple[Format, ...],
    billing_account: str | None,
    book: PriceBook,
    as_json: bool,
    **period: date | datetime | None,
) -> None:
    """Report the spend of a month, from the ledger alone, without a provider's statement.

    A job counts in the month in which its money was reserved, as it does for budgets. An amount is provisional
    if it is settled at the quote only, and held if it is not settled yet.

    --out writes an HTML page with charts, including the burn-down of each budget, and an XLSX workbook, CSV,
    Parquet, JSON and FOCUS 1.2. manifest.json lists their SHA-256.

    Exit codes: 0 done; 2 bad usage, or the ledger or folder cannot be used.
    """
    since = period["from"]
    if (since is None) != (until is None) or (since is not None and month is not None):
        raise click.UsageError(
            "give either --month, or both --from and --until; give none of them for the current month"
        )
    refuse_without_folder(out, format=formats, billing_account=billing_account)
    try:
        if since is None or until is None:
            start, end = month_of(month, timezone, datetime.now(UTC))
        else:
            start, end = (to_instant(at, timezone) for at in (since, until))
        spent = read_spend(ledger, start, end, project=project, timezone=timezone)
        if out is not None:
            _write(spent, out, formats or SPEND_FORMATS, book, billing_account)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    _show(spent, as_json=as_json)


def _write(
    spent: Spend, out: str, formats: tuple[Format, ...], book: PriceBook, billing_account: str | None
) -> None:
    with click.progressbar(length=len(formats), label="Writing", file=sys.stderr) as bar:
        manifest = write_spend(
            spent,
            out,
            formats=formats,
            book=book,
            billing_account=billing_account,
            on_format=lambda _: bar.update(1),
        )
    click.echo(f"wrote {counted(len(manifest.files), 'file')} and manifest.json to {out}", err=True)


def _show(spent: Spend, *, as_json: bool) -> None:
    document = spend_document.document(spent)
    if as_json:
        click.echo(to_json(as_data(document)))
        return
    click.echo(f"{document.title}: {document.verdict.headline[0].lower()}{document.verdict.headline[1:]}")
    click.echo(document.verdict.about)
    _show_table(next(section for section in document.sections if section.name == _PRINTED_TABLE))


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
