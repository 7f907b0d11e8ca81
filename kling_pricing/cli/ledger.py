"""`kling-pricing ledger`: creates, upgrades and inspects a ledger; for administrators."""

from __future__ import annotations

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import LEDGER_VARIABLE, json_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.ledger.administration import info, prepare

_EXIT_CODES = exit_codes_help(
    refused="refused; nothing changed", unreadable="bad usage, or a ledger that cannot be used"
)
_url_argument = click.argument("url", envvar=LEDGER_VARIABLE)


@click.group("ledger", cls=Group)
def ledger() -> None:
    """Create, upgrade and inspect a ledger.

    URL has the form sqlite:///spend.db or postgresql://user@host/database. Default: the environment variable
    KLING_PRICING_LEDGER.

    \b
    Examples:
      kling-pricing ledger init postgresql://admin@db/spend --grant guards
      kling-pricing ledger info postgresql://admin@db/spend
    """


@ledger.command("init", epilog=_EXIT_CODES)
@_url_argument
@click.option(
    "--grant", metavar="ROLE", help="Let ROLE use guards. ROLE can edit neither the journal nor the budgets."
)
def init_command(url: str, grant: str | None) -> None:
    """Create a ledger at URL, or upgrade an existing ledger.

    You can safely repeat the command.

    \b
    Example:
      kling-pricing ledger init postgresql://admin@db/spend --grant guards
    """
    with errors_shown(as_json=False):
        echo(prepare(url, create=True, grant=grant))


@ledger.command("migrate", epilog=_EXIT_CODES)
@_url_argument
def migrate_command(url: str) -> None:
    """Upgrade the ledger at URL for this kling-pricing version.

    Stop the guards first. If the ledger is a file, the command makes a copy before it changes the file. You can
    safely repeat the command.

    \b
    Example:
      kling-pricing ledger migrate postgresql://admin@db/spend
    """
    with errors_shown(as_json=False):
        echo(prepare(url, create=False))


@ledger.command("info", epilog=_EXIT_CODES)
@_url_argument
@json_option
def info_command(url: str, as_json: bool) -> None:
    """Show the setup of the ledger at URL.

    The command also warns about settings that can lead to data loss.

    \b
    Example:
      kling-pricing ledger info postgresql://admin@db/spend
    """
    with errors_shown(as_json=as_json):
        described = info(url)
    if as_json:
        echo(to_json({**described.facts, "warnings": described.warnings}))
        return
    for name, fact in described.facts.items():
        echo(f"{name}: {fact}")
    for warning in described.warnings:
        echo(f"warning: {warning}", err=True)
