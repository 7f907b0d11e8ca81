"""The options `--provider` and `--account` of the commands about statements and books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from kling_pricing.cli.ledger_options import read_account
from kling_pricing.cli.options import known_provider
from kling_pricing.tables.price_book import PriceBook

F = TypeVar("F", bound=Callable[..., object])

statement_account_option = click.option(
    "--account",
    metavar="NAME",
    callback=read_account,
    help="Account at the provider for which it issued the statement. Default: the only one in the ledger.",
)


def books_options(help_text: str) -> Callable[[F], F]:
    """Returns a decorator that adds the options, with a help text for `--provider`; see `chosen_provider`."""

    def add(command: F) -> F:
        with_account = statement_account_option(command)
        return click.option("--provider", callback=known_provider, help=help_text)(with_account)

    return add


def chosen_provider(ledgers: Sequence[str], provider: str | None, account: str | None, book: PriceBook) -> str:
    """Returns the provider that the options give. An account alone implies the provider that has it.

    Raises:
        click.UsageError: neither option is given.
        KlingPricingError: no provider has the account, or several do.
    """
    if provider is not None:
        return provider
    if account is None:
        raise click.UsageError("give --provider, or the --account of a provider")
    from kling_pricing.reconcile.chosen_account import provider_of  # noqa: PLC0415 (an extra, and slow to import)

    return provider_of(ledgers, account, (*book.tables, *book.unpriced))
