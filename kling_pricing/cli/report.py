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
from kling_pricing.reports.formatting import grouped
from kling_pricing.reports.spend import beginning, month_of
from kling_pricing.tables.price_table import PriceBook

_SHOWN = "by_project_and_model"


@click.command("report")
@ledger_option
@click.option("--project", help="Only this project's spend; by default everybody's.")
@click.option("--month", metavar="YYYY-MM", help="The month; by default the current one.")
@instant_option("--from", "The start of another period", days=True)
@instant_option("--until", "Its end, exclusive", days=True)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="Where days and months begin, an IANA name.",
)
@click.option("--out", metavar="FOLDER", help="Write the report's files into this folder.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(SPEND_FORMATS),
    help="Of the files; repeat it for several, by default all.",
)
@click.option("--billing-account", help="The provider's name for your account, for FOCUS.")
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
    """Say what was spent in a month, from the ledger alone, without a provider's statement.

    A job counts in the month in which its money was set aside, as it does for the budgets. What rests on a
    quote alone is provisional; what is not settled is held.

    With --out, a page with charts, among them the burn-down of each budget, a workbook, CSV, Parquet, JSON and
    FOCUS 1.2 are written, and a manifest of their SHA-256.

    Exit codes: 0 done; 2 bad usage, or a ledger or folder that cannot be used.
    """
    since = period["from"]
    if (since is None) != (until is None) or (since is not None and month is not None):
        raise click.UsageError(
            "give --month, or both --from and --until, or none of them for the current month"
        )
    refuse_without_folder(out, format=formats, billing_account=billing_account)
    try:
        if since is None or until is None:
            start, end = month_of(month, timezone, datetime.now(UTC))
        else:
            start, end = (beginning(each, timezone) for each in (since, until))
        spent = read_spend(ledger, start, end, project=project, timezone=timezone)
        if out is not None:
            _write(spent, out, formats or SPEND_FORMATS, book, billing_account)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    _show(spent, as_json=as_json)


def _write(
    spent: Spend, out: str, formats: tuple[Format, ...], book: PriceBook, billing_account: str | None
) -> None:
    with click.progressbar(length=len(formats), label="writing", file=sys.stderr) as bar:
        manifest = write_spend(
            spent,
            out,
            formats=formats,
            book=book,
            billing_account=billing_account,
            on_format=lambda _: bar.update(1),
        )
    click.echo(f"{len(manifest.files)} files and a manifest are in {out}", err=True)


def _show(spent: Spend, *, as_json: bool) -> None:
    document = spend_document.document(spent)
    if as_json:
        click.echo(to_json(as_data(document)))
        return
    click.echo(f"{document.title}: {document.verdict.headline[0].lower()}{document.verdict.headline[1:]}")
    click.echo(document.verdict.about)
    _show_table(next(each for each in document.sections if each.name == _SHOWN))


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
    return grouped(cell) if isinstance(cell, int | Decimal) else str(cell)
