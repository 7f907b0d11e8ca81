"""`kling-pricing ledger`: the commands for the administrator of a ledger."""

from __future__ import annotations

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import LEDGER_VARIABLE, json_option
from kling_pricing.cli.output import to_json
from kling_pricing.ledger.administration import info, prepare

_EXIT_CODES = exit_codes_help(
    refused="refused; nothing changed", unreadable="bad usage, or a ledger that cannot be used"
)
_url_argument = click.argument("url", envvar=LEDGER_VARIABLE)


@click.group("ledger", cls=Group)
def ledger() -> None:
    """Make, migrate and inspect a ledger.

    URL is sqlite:///spend.db, postgresql://user@host/database, or the variable KLING_PRICING_LEDGER.
    """


@ledger.command("init", epilog=_EXIT_CODES)
@_url_argument
@click.option(
    "--grant", metavar="ROLE", help="Let ROLE use guards. It can edit neither the journal nor the budgets."
)
def init_command(url: str, grant: str | None) -> None:
    """Make a ledger at URL, or migrate the one that is there. You can repeat this safely."""
    with errors_shown(as_json=False):
        click.echo(prepare(url, create=True, grant=grant))


@ledger.command("migrate", epilog=_EXIT_CODES)
@_url_argument
def migrate_command(url: str) -> None:
    """Bring the ledger at URL to the schema version of this kling-pricing.

    Stop the guards first. A ledger in a file is copied beside it before anything is changed. You can repeat
    this safely.
    """
    with errors_shown(as_json=False):
        click.echo(prepare(url, create=False))


@ledger.command("info", epilog=_EXIT_CODES)
@_url_argument
@json_option
def info_command(url: str, as_json: bool) -> None:
    """Show the server, the schema version and the budgets of the ledger at URL, and any risk of losing data."""
    with errors_shown(as_json=as_json):
        described = info(url)
    if as_json:
        click.echo(to_json({**described.facts, "warnings": described.warnings}))
        return
    for name, fact in described.facts.items():
        click.echo(f"{name}: {fact}")
    for warning in described.warnings:
        click.echo(f"warning: {warning}", err=True)
