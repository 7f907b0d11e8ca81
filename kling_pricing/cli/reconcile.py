"""`kling-pricing reconcile`: compares a provider's statement with the ledger, and explains differences."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Column, Table

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import fail
from kling_pricing.cli.ledger_options import json_option, show_alert
from kling_pricing.cli.options import instant_option, known_provider, refuse_without_folder, tables_option
from kling_pricing.cli.output import echo, signed, to_json
from kling_pricing.cli.terminal import bar_columns, wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.environment import LEDGER_VARIABLE
from kling_pricing.money import exact_amount, format_decimal
from kling_pricing.reconcile import Tolerance
from kling_pricing.reconcile.categories import exceptions_text
from kling_pricing.reconcile.model import exceptions_of
from kling_pricing.reports import FORMATS, Format, write_reports
from kling_pricing.tables.price_book import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile import Reconciliation, Settled

_MAX_LISTED = 10
"""Maximum number of exceptions to list; the reports contain all of them."""
_ROW_KINDS = {
    "charges": "charges in the period",
    "uncharged": "uncharged",
    "invalid": "invalid",
    "outside": "outside the period",
    "ignored": "ignored",
}
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


@click.command(
    "reconcile",
    epilog=exit_codes_help(
        "the totals tie out, and no action is needed",
        "there are exceptions, or the ledger refused to settle a reservation",
    ),
)
@click.option(
    "--ledger",
    "ledgers",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    multiple=True,
    required=True,
    help="Ledger URL. Repeat the option for several ledgers.",
)
@click.option(
    "--statement",
    "statements",
    metavar="FILE",
    multiple=True,
    required=True,
    help="Statement file from the provider: CSV, JSON, Parquet or XLSX. Repeat the option for several files.",
)
@click.option("--provider", required=True, callback=known_provider, help="Provider that issued the statement.")
@instant_option("--from", "Start of the period, inclusive (ISO 8601).", name="since", required=True)
@instant_option("--until", "End of the period, exclusive (ISO 8601).", required=True)
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
    since: datetime,
    until: datetime,
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
    memory_limit: str | None,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Compare a provider's statement with the expected costs.

    The command compares the statement with the ledger, task by task, and puts every line of the comparison
    into one category. Each difference is explained to the last digit or marked as unexplained. The totals
    always tie out: the expected amounts plus the variances equal the billed amounts exactly. The ledger
    changes only with --settle.

    \b
    Example:
      kling-pricing reconcile --ledger sqlite:///spend.db \\
          --statement november.csv --provider qingbo \\
          --from 2026-11-01 --until 2026-12-01 --out reports/2026-11
    """
    from kling_pricing.reconcile import reconcile  # noqa: PLC0415 (an extra, and slow to import)

    if (tolerance == 0) != (batch_tolerance == 0):
        raise click.UsageError(
            "--tolerance limits the unexplained amount of each line, and --batch-tolerance limits the total "
            "of these amounts; give both options"
        )
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
                on_progress=report,
            ) as reconciled,
        ):
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
            settled = reconciled.settle(on_progress=report, on_alert=show_alert) if settle else None
            answer = _as_dict(reconciled, files, settled)
            grid = _grid(reconciled)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    if as_json:
        echo(to_json(answer))
    else:
        if answer["totals"]:
            wide_console().print(grid)
        for line in _sentences(answer, out):
            echo(line)
    sys.exit(REFUSED if answer["exceptions"] or _refused(answer) else DONE)


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


def _as_dict(reconciled: Reconciliation, files: dict[str, str], settled: Settled | None) -> dict[str, Any]:
    """Returns the result as JSON-ready data; amounts are text."""
    answer: dict[str, Any] = {
        "provider": reconciled.provider,
        "since": reconciled.since.isoformat(),
        "until": reconciled.until.isoformat(),
        "exceptions": reconciled.exceptions,
        "open": reconciled.open,
        "statements": dict(reconciled.statements),
        "rows": reconciled.rows._asdict(),
    }
    for name in ("all", "category"):
        answer["totals" if name == "all" else "categories"] = [
            {
                **total._asdict(),
                "expected": format_decimal(total.expected),
                "billed": format_decimal(total.billed),
                "variance": format_decimal(total.variance),
            }
            for total in reconciled.totals(name)
        ]
    answer["first_exceptions"] = [
        {
            "task_id": line.task_id,
            "reservation_id": line.reservation_id,
            "rows": list(line.rows),
            "category": line.category,
            "variance": format_decimal(line.variance),
            "currency": line.currency,
            "cause": line.cause,
            "remedy": line.remedy,
        }
        for line in islice(exceptions_of(reconciled), min(_MAX_LISTED, reconciled.exceptions))
    ]
    answer["reports"] = files
    if settled is not None:
        answer["settled"] = {**settled._asdict(), "refused": dict(settled.refused)}
    return answer


def _grid(reconciled: Reconciliation) -> Table:
    right = {"justify": "right", "no_wrap": True}
    grid = Table(
        Column("category", no_wrap=True),
        *(Column(name, **right) for name in ("lines", "expected", "variance", "billed")),  # type: ignore[arg-type]
        "currency",
    )
    by_category = reconciled.totals("category")
    for whole in reconciled.totals("all"):
        categories = [total for total in by_category if total.currency == whole.currency]
        for total in (*categories, whole):
            grid.add_row(
                total.name.replace("_", " ") or "all",
                str(total.lines),
                format_decimal(total.expected),
                signed(total.variance),
                format_decimal(total.billed),
                whole.currency,
                style="" if total.name else "bold",
                end_section=not total.name,
            )
    return grid


def _sentences(answer: dict[str, Any], out: str | None) -> Iterator[str]:
    """Yields the lines below the table."""
    rows = answer["rows"]
    counts = [f"{rows[name]} {kind}" for name, kind in _ROW_KINDS.items() if rows[name] or name == "charges"]
    yield f"statement rows: {rows['read']} read, {', '.join(counts)}"
    if "settled" in answer:
        settled = answer["settled"]
        yield f"settled: {settled['settled']}, bound: {settled['bound']}, refused: {len(settled['refused'])}"
        for reservation, reason in settled["refused"].items():
            yield f"  {reservation}: {reason}"
    if answer["first_exceptions"]:
        yield "exceptions:"
    for exception in answer["first_exceptions"]:
        place = exception["task_id"] or exception["reservation_id"] or ", ".join(exception["rows"])
        variance = f"{signed(Decimal(exception['variance']))} {exception['currency']}"
        category = exception["category"].replace("_", " ")
        message = ". ".join(filter(None, (exception["cause"], exception["remedy"])))
        yield f"  {place}: {category}, {variance}: {message}"
    if answer["exceptions"] > _MAX_LISTED:
        yield f"  and {answer['exceptions'] - _MAX_LISTED} more" + (
            "" if out else "; to write reports with all exceptions, add --out FOLDER"
        )
    if out is not None:
        yield f"reports: {len(answer['reports'])} files in {out}"
    actions = []
    if answer["exceptions"]:
        actions.append(exceptions_text(answer["exceptions"], answer["open"]))
    if refused := _refused(answer):
        actions.append(f"{refused} reservation{'s' * (refused > 1)} could not be settled")
    if answer["totals"] or actions:
        yield f"the totals tie out; {', and '.join(actions) or 'no action needed'}"
    else:
        yield (
            f"no {answer['provider']} task was sent or charged from {answer['since']} to {answer['until']}; "
            "check the provider and the period"
        )


def _refused(answer: dict[str, Any]) -> int:
    """Returns the number of reservations that a ledger refused to settle or bind."""
    return len(answer["settled"]["refused"]) if "settled" in answer else 0
