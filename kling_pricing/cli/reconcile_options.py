"""The options of `kling-pricing reconcile`, and the functions that read their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import click

from kling_pricing.cli.account_choice import statement_account_option
from kling_pricing.cli.booking_options import (
    accounts_option,
    accounts_schema_option,
    exchange_rates_option,
    exchange_rates_schema_option,
    no_bom_option,
)
from kling_pricing.cli.ledger_options import json_option, ledgers_option
from kling_pricing.cli.options import known_provider, require_provider, tables_option
from kling_pricing.cli.period import period_options
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import exact_amount
from kling_pricing.reports import FORMATS
from kling_pricing.tables.price_book import PriceBook

F = TypeVar("F", bound=Callable[..., object])

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


def _optional_amount(ctx: click.Context, option: click.Parameter, value: str | None) -> Decimal | None:
    return None if value is None else _amount(ctx, option, value)


def _pairs(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if wrong := next((value for value, pair in zip(values, pairs, strict=True) if not all(pair)), None):
        raise click.BadParameter(f"{wrong!r} is not a pair; write RESERVATION=TASK_ID")
    return {reservation: task_id for reservation, _, task_id in pairs}


def _one_provider(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Reads the provider of the statements that name none."""
    providers = list(dict.fromkeys(known_provider(ctx, option, value) for value in values))
    if len(providers) > 1:
        raise click.BadParameter(
            f"{len(providers)} providers are given; write --statement PROVIDER=FILE for each statement instead"
        )
    return providers[0] if providers else None


def _statements(
    ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str | None, str], ...]:
    """Reads the provider and the file of each statement; the provider is None if it is not given."""
    book: PriceBook = ctx.params["book"]
    pairs = []
    for value in values:
        name, equals, path = value.partition("=")
        is_named = bool(equals and path) and book.knows(name)
        if equals and not is_named and not Path(value).exists() and Path(path).is_file():
            require_provider(book, name)
        pairs.append((name, path) if is_named else (None, value))
    return tuple(pairs)


_OPTIONS = (
    ledgers_option,
    click.option(
        "--statement",
        "statements",
        metavar="[PROVIDER=]FILE",
        multiple=True,
        required=True,
        callback=_statements,
        help="Statement file: CSV, JSON, Parquet or XLSX. Repeat the option for several files. For several "
        "providers, write PROVIDER=FILE.",
    ),
    click.option(
        "--provider",
        multiple=True,
        callback=_one_provider,
        help="Provider that issued the statements without PROVIDER=.",
    ),
    statement_account_option,
    period_options(current=False),
    click.option("--out", metavar="FOLDER", help="Write the reports to this folder."),
    click.option(
        "--format",
        "formats",
        multiple=True,
        type=click.Choice(FORMATS),
        help="Report format. Repeat the option for several formats. Default: all formats.",
    ),
    no_bom_option,
    accounts_option,
    exchange_rates_option,
    accounts_schema_option,
    exchange_rates_schema_option,
    click.option(
        "--mapping",
        metavar="NAME|FILE",
        help="Mapping for the statement's columns. Default: the mapping that matches the columns.",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Encoding of text files, such as gb18030. Default: UTF-8, or UTF-16 if the file has a byte order "
        "mark.",
    ),
    click.option(
        "--account-currency",
        metavar="CODE",
        help="Currency of amounts for which the statement does not state one. Default: the account "
        "currency in the price table, or else the currency of the table's prices.",
    ),
    click.option(
        "--grace",
        callback=_time,
        default="24h",
        show_default=True,
        help="Maximum time between the submission of a task and its charge.",
    ),
    click.option(
        "--window",
        callback=_time,
        default="24h",
        show_default=True,
        help="Maximum time between a request without a known task and a charge for an unknown task, if the two "
        "are to be matched.",
    ),
    click.option(
        "--tolerance",
        callback=_amount,
        default="0",
        show_default=True,
        help="Maximum unexplained amount to tolerate per line.",
    ),
    click.option(
        "--batch-tolerance",
        callback=_amount,
        default="0",
        show_default=True,
        help="Maximum total of the tolerated amounts of all lines. If the total is larger, none of these "
        "amounts is tolerated.",
    ),
    click.option(
        "--pair",
        "pairs",
        metavar="RESERVATION=TASK_ID",
        multiple=True,
        callback=_pairs,
        help="Assign a task on the statement to a reservation without a task. Repeat the option for "
        "several pairs.",
    ),
    click.option(
        "--invoice-total",
        callback=_optional_amount,
        metavar="AMOUNT",
        help="Total of the invoice for the period, which is compared with the rows.",
    ),
    click.option("--invoice-currency", metavar="CODE", help="Currency of the invoice, such as USD."),
    click.option("--invoice-id", metavar="ID", help="Number of the invoice, for the reports."),
    click.option(
        "--max-unreadable",
        callback=_amount,
        default="1",
        show_default=True,
        metavar="PERCENT",
        help="Maximum percentage of unreadable rows. Above this limit, the period is not reconciled.",
    ),
    click.option(
        "--settle",
        is_flag=True,
        help="Settle the reservations at the statement's charges. Without this option, the ledger stays "
        "unchanged.",
    ),
    click.option(
        "--settle-also",
        "also",
        type=click.Choice(["unexplained"]),
        multiple=True,
        help="Additional category to settle with --settle.",
    ),
    click.option(
        "--settle-despite-gaps",
        "despite_gaps",
        is_flag=True,
        help="Settle even though the period is not reconciled. Rows that cannot be read or are missing may "
        "change the cost of a settled task.",
    ),
    click.option(
        "--remember",
        is_flag=True,
        help="Add the statement to the books, so that later reconciliations know its charges. --settle and "
        "--dispute imply this option.",
    ),
    click.option(
        "--replaces",
        metavar="NAME|DIGEST",
        help="Statement in the books that the new file replaces. The charges of the replaced statement no "
        "longer count. The command first shows the changes.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Show the changes that --replaces and --settle would make, without making them.",
    ),
    click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask before a statement is replaced."),
    click.option(
        "--dispute",
        is_flag=True,
        help="Open a dispute for every charge that is too high, and for every repeated charge. Disputed tasks "
        "are not settled.",
    ),
    click.option(
        "--dispute-also",
        type=click.Choice(["not_in_ledger"]),
        multiple=True,
        help="Additional category to dispute with --dispute. Charges for tasks that are not in the ledger are "
        "not disputed without this option.",
    ),
    click.option("--reason", metavar="TEXT", help="Reason to keep in the books. --dispute requires it."),
    click.option(
        "--actor", metavar="NAME", help="Your name for the books. Default: your user name on this system."
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Maximum memory to use, such as 500MB. Data that does not fit in memory is stored on disk.",
    ),
    tables_option,
    json_option,
)


def reconcile_options(command: F) -> F:
    """Adds the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
