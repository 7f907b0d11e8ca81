"""`kling-pricing reconcile`: compares a provider's statement with the ledger, and explains differences."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import fail
from kling_pricing.cli.ledger_options import json_option, ledgers_option, show_alert
from kling_pricing.cli.options import instant_option, known_provider, refuse_without_folder, tables_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.cli.reconcile_output import as_dict, refused_count, sentences, totals_grid
from kling_pricing.cli.terminal import bar_columns, wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import exact_amount
from kling_pricing.reconcile import Tolerance
from kling_pricing.reconcile.months import BooksPeriod, month_period
from kling_pricing.reports import FORMATS, Format, write_reports
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile.settle import SettleAlso

_TIME = re.compile(r"([1-9][0-9]{0,4})(m|h|d)")
_TIMES = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _time(_ctx: click.Context, _option: click.Parameter, value: str) -> timedelta:
    parts = _TIME.fullmatch(value)
    if parts is None and value != "0":
        raise click.BadParameter(f"{value!r} is not a duration; write 90m, 24h or 3d, for example")
    return timedelta(0) if parts is None else int(parts[1]) * _TIMES[parts[2]]


def _amount(_ctx: click.Context, _option: click.Parameter, value: str) -> Decimal:
    try:
        return exact_amount(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


def _pairs(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if wrong := next((value for value, pair in zip(values, pairs, strict=True) if not all(pair)), None):
        raise click.BadParameter(f"{wrong!r} is not a pair; write RESERVATION=TASK_ID")
    return {reservation: task_id for reservation, _, task_id in pairs}


def _month(_ctx: click.Context, _option: click.Parameter, value: str | None) -> BooksPeriod | None:
    try:
        return None if value is None else month_period(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    "reconcile",
    epilog=exit_codes_help(
        "the totals tie out, and no action is needed",
        "there are exceptions, or the ledger refused to settle a reservation",
    ),
)
@ledgers_option
@click.option(
    "--statement",
    "statements",
    metavar="FILE",
    multiple=True,
    required=True,
    help="Statement file from the provider: CSV, JSON, Parquet or XLSX. Repeat the option for several files.",
)
@click.option("--provider", required=True, callback=known_provider, help="Provider that issued the statement.")
@click.option("--month", metavar="YYYY-MM", callback=_month, help="Month to reconcile, in UTC.")
@instant_option("--from", "Start of the period, inclusive (ISO 8601); replaces --month.", name="since")
@instant_option("--until", "End of the period, exclusive (ISO 8601); replaces --month.")
@click.option("--out", metavar="FOLDER", help="Write the reports to this folder.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="Report format. Repeat the option for several formats. Default: all formats.",
)
@click.option(
    "--mapping",
    metavar="NAME|FILE",
    help="Mapping for the statement's columns. Default: the mapping that matches the columns.",
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="Encoding of text files, such as gb18030. Default: UTF-8, or UTF-16 if the file has a byte order "
    "mark.",
)
@click.option(
    "--account-currency",
    metavar="CODE",
    help="Currency of amounts whose currency the statement does not state. Default: the account currency in "
    "the price table, or else the currency of the table's prices.",
)
@click.option(
    "--grace",
    callback=_time,
    default="24h",
    show_default=True,
    help="Maximum time between the submission of a task and its charge.",
)
@click.option(
    "--window",
    callback=_time,
    default="24h",
    show_default=True,
    help="Maximum time between a request whose task is unknown and a charge for an unknown task if the two are "
    "to be treated as a possible match.",
)
@click.option(
    "--tolerance",
    callback=_amount,
    default="0",
    show_default=True,
    help="Maximum unexplained amount to tolerate per line.",
)
@click.option(
    "--batch-tolerance",
    callback=_amount,
    default="0",
    show_default=True,
    help="Maximum total of the tolerated amounts of all lines. If the total is larger, none of these amounts "
    "is tolerated.",
)
@click.option(
    "--pair",
    "pairs",
    metavar="RESERVATION=TASK_ID",
    multiple=True,
    callback=_pairs,
    help="Assign a task on the statement to a reservation without a task. Repeat the option for several pairs.",
)
@click.option(
    "--settle",
    is_flag=True,
    help="Settle the reservations at the statement's charges. Without this option, the ledger stays unchanged.",
)
@click.option(
    "--settle-also",
    "also",
    type=click.Choice(["unexplained"]),
    multiple=True,
    help="Category that --settle settles in addition to those that are explained.",
)
@click.option(
    "--remember",
    is_flag=True,
    help="Add the statement to the books, so that later reconciliations know its charges. --settle and "
    "--dispute imply this option.",
)
@click.option(
    "--replaces",
    metavar="NAME|DIGEST",
    help="Statement in the books that the file corrects. Its charges no longer count.",
)
@click.option(
    "--dispute",
    is_flag=True,
    help="Open a dispute for every charge that is too high. Disputed tasks are not settled.",
)
@click.option("--reason", metavar="TEXT", help="Reason to keep in the books. --dispute requires it.")
@click.option(
    "--actor", metavar="NAME", help="Your name for the books. Default: your user name on this system."
)
@click.option(
    "--memory-limit",
    metavar="SIZE",
    help="Maximum memory to use, such as 500MB. Data that does not fit in memory is stored on disk.",
)
@tables_option
@json_option
def reconcile_command(
    ledgers: tuple[str, ...],
    statements: tuple[str, ...],
    provider: str,
    month: BooksPeriod | None,
    since: datetime | None,
    until: datetime | None,
    out: str | None,
    formats: tuple[Format, ...],
    mapping: str | None,
    encoding: str | None,
    account_currency: str | None,
    grace: timedelta,
    window: timedelta,
    tolerance: Decimal,
    batch_tolerance: Decimal,
    pairs: dict[str, str],
    settle: bool,
    also: tuple[SettleAlso, ...],
    remember: bool,
    replaces: str | None,
    dispute: bool,
    reason: str | None,
    actor: str | None,
    memory_limit: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Compare a provider's statement with the expected costs.

    The command compares the statement with the ledger, task by task, and puts every line of the comparison
    into one category. Each difference is explained to the last digit or marked as unexplained. The totals
    always tie out: the expected amounts plus the variances equal the billed amounts exactly. The ledger
    changes only with --remember, --settle or --dispute.

    \b
    Example:
      kling-pricing reconcile --ledger sqlite:///spend.db \\
          --statement november.csv --provider qingbo \\
          --month 2026-11 --out reports/2026-11
    """
    from kling_pricing.reconcile import reconcile  # noqa: PLC0415 (an extra, and slow to import)

    if (tolerance == 0) != (batch_tolerance == 0):
        raise click.UsageError(
            "--tolerance limits the unexplained amount of each line, and --batch-tolerance limits the total "
            "of these amounts; give both options"
        )
    if month is not None and since is None and until is None:
        since, until = month
    elif month is not None or since is None or until is None:
        raise click.UsageError("give either --month or both --from and --until")
    if dispute and not reason:
        raise click.UsageError("--dispute needs a --reason, which the books keep")
    if also and not settle:
        raise click.UsageError("--settle-also needs --settle")
    refuse_without_folder(out, format=formats)
    try:
        with (
            _progress() as report,
            reconcile(
                ledgers,
                statements,
                provider=provider,
                since=since,
                until=until,
                mapping=mapping,
                encoding=encoding,
                account_currency=account_currency,
                grace=grace,
                tolerance=Tolerance(tolerance, batch_tolerance),
                pairs=pairs,
                window=window,
                book=book,
                memory_limit=memory_limit,
                replaces=replaces,
                on_progress=report,
            ) as reconciled,
        ):
            remembered = disputed = settled = None
            if remember or dispute or settle:
                remembered = reconciled.remember(actor=actor, reason=reason)
            if dispute and reason:
                disputed = reconciled.dispute(actor=actor, reason=reason)
            files = {}
            if out is not None:
                manifest = write_reports(
                    reconciled,
                    out,
                    formats=formats or FORMATS,
                    book=book,
                    on_format=lambda name: report(f"writing {name}", 0, None),
                )
                files = dict(manifest.files)
            if settle:
                settled = reconciled.settle(
                    also=also, actor=actor, reason=reason, on_progress=report, on_alert=show_alert
                )
            answer = as_dict(reconciled, files, remembered=remembered, disputed=disputed, settled=settled)
            grid = totals_grid(reconciled)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    if as_json:
        echo(to_json(answer))
    else:
        if answer["totals"]:
            wide_console().print(grid)
        for line in sentences(answer, out):
            echo(line)
    sys.exit(REFUSED if answer["exceptions"] or refused_count(answer) else DONE)


@contextmanager
def _progress() -> Iterator[Any]:
    """Shows the progress on a terminal, with one bar per stage."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _stage, _done, _total: None
        return
    with Progress(*bar_columns(), console=console, transient=True, redirect_stdout=False) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
