"""The options about your accounting: accounts, cost centres and exchange rates, and the format of CSV files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kling_pricing.cli.output import echo, to_json
from kling_pricing.errors import TableError
from kling_pricing.tables.price_book import PriceBook

F = TypeVar("F", bound=Callable[..., Any])


def _accounts(ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
    """Reads an accounts file. The command must also have `tables_option`."""
    from kling_pricing.reports import load_accounts  # noqa: PLC0415 (slow, and most commands need none)

    book: PriceBook = ctx.params["book"]
    try:
        return None if value is None else load_accounts(value, book=book)
    except TableError as error:
        raise click.BadParameter(str(error)) from None


def _rates(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Any:
    from kling_pricing.reports import load_exchange_rates  # noqa: PLC0415 (slow, and most commands need none)

    try:
        return None if value is None else load_exchange_rates(value)
    except TableError as error:
        raise click.BadParameter(str(error)) from None


def _print_schema(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def print_and_exit(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
        if value:
            from kling_pricing import reports  # noqa: PLC0415 (slow, and most commands need none)

            echo(to_json(getattr(reports, name)()))
            ctx.exit()

    return print_and_exit


def schema_option(flag: str, function: str, help_text: str) -> Callable[[F], F]:
    """Returns an option that prints a JSON Schema and exits.

    Args:
        flag: the option.
        function: the function of `kling_pricing.reports` that returns the schema.
        help_text: the option's help.
    """
    return click.option(
        flag, is_flag=True, is_eager=True, expose_value=False, callback=_print_schema(function), help=help_text
    )


accounts_option = click.option(
    "--accounts",
    metavar="FILE",
    callback=_accounts,
    help="YAML file with your account codes, cost centres and tax texts. See --accounts-schema.",
)

accounts_schema_option = schema_option(
    "--accounts-schema", "accounts_schema", "Print the JSON Schema of the accounts file, and exit."
)

exchange_rates_option = click.option(
    "--fx",
    "rates",
    metavar="FILE",
    callback=_rates,
    help="YAML file with exchange rates per currency and date. The journal is then in your currency. See "
    "--fx-schema.",
)

exchange_rates_schema_option = schema_option(
    "--fx-schema", "exchange_rates_schema", "Print the JSON Schema of the file of exchange rates, and exit."
)

no_bom_option = click.option(
    "--no-bom",
    is_flag=True,
    help="Write CSV files without a byte order mark. Excel needs the mark to read names that are not English.",
)
