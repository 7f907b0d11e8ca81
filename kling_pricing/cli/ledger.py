"""`kling-pricing ledger`: for its administrator."""

from __future__ import annotations

import click

from kling_pricing.cli.ledger_options import LEDGER_VARIABLE, errors_shown, json_option
from kling_pricing.cli.output import to_json
from kling_pricing.ledger.administration import info, prepare

_url_argument = click.argument("url", envvar=LEDGER_VARIABLE)


@click.group("ledger")
def ledger() -> None:
    """Make, upgrade and look at a ledger on a server.

    URL is postgresql://user@host/database, or the variable KLING_PRICING_LEDGER.
    """


@ledger.command("init")
@_url_argument
@click.option(
    "--grant", metavar="ROLE", help="Let ROLE use guards; it can neither edit the journal nor budgets."
)
def init_command(url: str, grant: str | None) -> None:
    """Make a ledger in the database of URL, or bring it up to date; safe to repeat."""
    with errors_shown(as_json=False):
        click.echo(prepare(url, create=True, grant=grant))


@ledger.command("migrate")
@_url_argument
def migrate_command(url: str) -> None:
    """Bring the ledger at URL up to date with this version of kling-pricing; safe to repeat."""
    with errors_shown(as_json=False):
        click.echo(prepare(url, create=False))


@ledger.command("info")
@_url_argument
@json_option
def info_command(url: str, as_json: bool) -> None:
    """Show what the ledger at URL runs on, and what could be lost."""
    with errors_shown(as_json=as_json):
        described = info(url)
    if as_json:
        click.echo(to_json({**described.facts, "warnings": described.warnings}))
        return
    for what, fact in described.facts.items():
        click.echo(f"{what}: {fact}")
    for warning in described.warnings:
        click.echo(f"warning: {warning}", err=True)
