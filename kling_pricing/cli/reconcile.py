"""`kling-pricing reconcile`: was every clip billed right, and if not, why."""

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

from kling_pricing.cli.exit_codes import DONE, REFUSED
from kling_pricing.cli.failures import fail
from kling_pricing.cli.ledger_options import LEDGER_VARIABLE, json_option, show_alert
from kling_pricing.cli.options import instant_option, known_provider, refuse_without_folder, tables_option
from kling_pricing.cli.output import signed, to_json, wide_console
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import exact_amount, format_decimal
from kling_pricing.reconcile import Tolerance
from kling_pricing.reconcile.model import exceptions_of
from kling_pricing.reports import FORMATS, Format, write_reports
from kling_pricing.tables.price_table import PriceBook

if TYPE_CHECKING:
    from kling_pricing.reconcile import Reconciliation, Settled

_MAX_NAMED = 10
"""Of the exceptions, the first are named; the reports have all."""
_TIME = re.compile(r"([1-9][0-9]{0,4})(m|h|d)")
_TIMES = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _time(_ctx: click.Context, _option: click.Parameter, value: str) -> timedelta:
    found = _TIME.fullmatch(value)
    if found is None and value != "0":
        raise click.BadParameter(f"{value!r} is no length of time such as 90m, 24h or 3d")
    return timedelta(0) if found is None else int(found[1]) * _TIMES[found[2]]


def _amount(_ctx: click.Context, _option: click.Parameter, value: str) -> Decimal:
    try:
        return exact_amount(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


def _pairs(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if wrong := next((value for value, pair in zip(values, pairs, strict=True) if not all(pair)), None):
        raise click.BadParameter(f"{wrong!r} is not RESERVATION=TASK_ID")
    return {reservation: task_id for reservation, _, task_id in pairs}


@click.command("reconcile")
@click.option(
    "--ledger",
    "ledgers",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    multiple=True,
    required=True,
    help="The ledger; give it again for each further one.",
)
@click.option(
    "--statement",
    "statements",
    metavar="FILE",
    multiple=True,
    required=True,
    help="A file of the provider's statement: CSV, JSON, Parquet or XLSX; give it again for each further one.",
)
@click.option("--provider", required=True, callback=known_provider, help="Who bills.")
@instant_option("--from", "Start of the period, a day or an instant", name="since", required=True)
@instant_option("--until", "Its end, which is no longer in it", required=True)
@click.option("--out", metavar="FOLDER", help="Write the reports there.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="Of the reports; repeat it for several, by default all.",
)
@click.option(
    "--mapping",
    metavar="NAME|FILE",
    help="What the statement's columns mean; by default the mapping that fits it.",
)
@click.option(
    "--grace", callback=_time, default="24h", show_default=True, help="How late a task may be charged."
)
@click.option(
    "--window",
    callback=_time,
    default="24h",
    show_default=True,
    help="How long after a request without a known task an unknown task may be its own.",
)
@click.option(
    "--tolerance", callback=_amount, default="0", show_default=True, help="Per line: what may stay unexplained."
)
@click.option(
    "--batch-tolerance",
    callback=_amount,
    default="0",
    show_default=True,
    help="For all such lines together; if they come to more, none is tolerated.",
)
@click.option(
    "--pair",
    "pairs",
    metavar="RESERVATION=TASK_ID",
    multiple=True,
    callback=_pairs,
    help="Decide that an unknown task belongs to a reservation that has none.",
)
@click.option(
    "--settle", is_flag=True, help="Write the statement's truth into the ledger; else nothing changes."
)
@click.option("--memory-limit", metavar="SIZE", help="Such as 500MB; what does not fit is kept on the disk.")
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
    """Hold what the provider billed against what was expected, task by task.

    Every line is in one category, every difference is explained to the last digit or said to be unexplained,
    and expected + variances = billed, exactly. Without --settle nothing is changed in the ledger.

    \b
    kling-pricing reconcile --ledger sqlite:///spend.db --statement november.csv \\
        --provider qingbo --from 2026-11-01 --until 2026-12-01 --out reports/2026-11

    Exit codes: 0 it ties out, and nobody has to do anything; 1 there are exceptions, or the ledger refuses to
    settle one; 2 bad input.
    """
    from kling_pricing.reconcile import reconcile  # noqa: PLC0415 (an extra, and what it needs takes time to load)

    if (tolerance == 0) != (batch_tolerance == 0):
        raise click.UsageError(
            "give --tolerance and --batch-tolerance together: one bounds a line, one all lines"
        )
    refuse_without_folder(out, format=formats)
    try:
        with (
            _progress() as tell,
            reconcile(
                ledgers,
                statements,
                provider=provider,
                since=since,
                until=until,
                mapping=mapping,
                grace=grace,
                tolerance=Tolerance(tolerance, batch_tolerance),
                pairs=pairs,
                window=window,
                book=book,
                memory_limit=memory_limit,
                on_progress=tell,
            ) as reconciled,
        ):
            files = {}
            if out is not None:
                manifest = write_reports(
                    reconciled,
                    out,
                    formats=formats or FORMATS,
                    book=book,
                    on_format=lambda name: tell(f"writing {name}", 0, None),
                )
                files = dict(manifest.files)
            settled = reconciled.settle(on_progress=tell, on_alert=show_alert) if settle else None
            answer = _as_dict(reconciled, files, settled)
            grid = _grid(reconciled)
    except KlingPricingError as error:
        fail(error, as_json=as_json)
    if as_json:
        click.echo(to_json(answer))
    else:
        if answer["totals"]:
            wide_console().print(grid)
        for line in _sentences(answer, out):
            click.echo(line)
    sys.exit(REFUSED if answer["exceptions"] or _refused(answer) else DONE)


@contextmanager
def _progress() -> Iterator[Any]:
    """Tells how far it is: a bar for each thing that is done, on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _what, _done, _total: None
        return
    with Progress(console=console, transient=True, redirect_stdout=False) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _as_dict(reconciled: Reconciliation, files: dict[str, str], settled: Settled | None) -> dict[str, Any]:
    """The answer as JSON-ready data; amounts are text."""
    found: dict[str, Any] = {
        "provider": reconciled.provider,
        "since": reconciled.since.isoformat(),
        "until": reconciled.until.isoformat(),
        "exceptions": reconciled.exceptions,
        "statements": dict(reconciled.statements),
        "rows": reconciled.rows._asdict(),
    }
    for name in ("all", "category"):
        found["totals" if name == "all" else "categories"] = [
            {
                **each._asdict(),
                "expected": format_decimal(each.expected),
                "billed": format_decimal(each.billed),
                "variance": format_decimal(each.variance),
            }
            for each in reconciled.totals(name)
        ]
    found["first_exceptions"] = [
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
        for line in islice(exceptions_of(reconciled), min(_MAX_NAMED, reconciled.exceptions))
    ]
    found["reports"] = files
    if settled is not None:
        found["settled"] = {**settled._asdict(), "refused": dict(settled.refused)}
    return found


def _grid(reconciled: Reconciliation) -> Table:
    right = {"justify": "right", "no_wrap": True}
    grid = Table(
        Column("category", no_wrap=True),
        *(Column(name, **right) for name in ("lines", "expected", "variance", "billed")),  # type: ignore[arg-type]
        "currency",
    )
    overall = {each.currency: each for each in reconciled.totals("all")}
    by_category = reconciled.totals("category")
    for currency, total in overall.items():
        for each in (*(each for each in by_category if each.currency == currency), total):
            grid.add_row(
                each.name.replace("_", " ") or "all",
                str(each.lines),
                format_decimal(each.expected),
                signed(each.variance),
                format_decimal(each.billed),
                currency,
                style="" if each.name else "bold",
                end_section=not each.name,
            )
    return grid


def _sentences(answer: dict[str, Any], out: str | None) -> Iterator[str]:
    """What is said below the table."""
    rows = answer["rows"]
    others = ", ".join(f"{rows[name]} {name}" for name in ("uncharged", "invalid", "outside") if rows[name])
    yield f"rows of the statement: {rows['read']}, {rows['charges']} charges of the period" + (
        f", {others}" if others else ""
    )
    if "settled" in answer:
        settled = answer["settled"]
        yield f"settled: {settled['settled']}, bound: {settled['bound']}, refused: {len(settled['refused'])}"
        for reservation, why in settled["refused"].items():
            yield f"  {reservation}: {why}"
    if answer["first_exceptions"]:
        yield "exceptions:"
    for each in answer["first_exceptions"]:
        place = each["task_id"] or each["reservation_id"] or ", ".join(each["rows"])
        variance = f"{signed(Decimal(each['variance']))} {each['currency']}"
        category = each["category"].replace("_", " ")
        yield f"  {place}: {category}, {variance}: {'. '.join(filter(None, (each['cause'], each['remedy'])))}"
    if answer["exceptions"] > _MAX_NAMED:
        yield f"  and {answer['exceptions'] - _MAX_NAMED} more" + ("" if out else "; --out FOLDER writes all")
    if out is not None:
        yield f"reports: {len(answer['reports'])} files in {out}"
    open_ = [
        (answer["exceptions"], "exception", "to look at"),
        (_refused(answer), "reservation", "that could not be settled"),
    ]
    said = ", ".join(f"{count} {what}{'s' * (count > 1)} {how}" for count, what, how in open_ if count)
    if answer["totals"] or said:
        yield f"ties out; {said or 'nobody has to do anything'}"
    else:
        yield (
            f"nothing of {answer['provider']} was sent or charged from {answer['since']} to {answer['until']}; "
            "are these the right provider and the right period?"
        )


def _refused(answer: dict[str, Any]) -> int:
    """How many reservations a ledger refused to settle or to bind."""
    return len(answer["settled"]["refused"]) if "settled" in answer else 0
