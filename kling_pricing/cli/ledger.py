"""`kling-pricing ledger`: creates, upgrades, inspects and recovers a ledger; for administrators."""

from __future__ import annotations

import sys

import click

from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import actor_option, json_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.ledger.administration import info, prepare, recover
from kling_pricing.ledger.environment import LEDGER_VARIABLE

_EXIT_CODES = exit_codes_help(
    refused="refused; nothing changed", unreadable="bad usage, or a ledger that cannot be used"
)
_RECOVER_EXIT_CODES = exit_codes_help(
    done="nothing is missing, or the loss was accepted",
    refused="journal entries are missing",
    unreadable="bad usage, or a ledger that cannot be used",
)
_url_argument = click.argument("url", envvar=LEDGER_VARIABLE)


@click.group("ledger", cls=Group)
def ledger() -> None:
    """Create, upgrade, inspect and recover a ledger.

    URL has the form sqlite:///spend.db or postgresql://user@host/database. Default: the value of the
    environment variable KLING_PRICING_LEDGER.

    \b
    Examples:
      kling-pricing ledger init postgresql://admin@db/spend --grant guards
      kling-pricing ledger info postgresql://admin@db/spend
    """


@ledger.command("init", epilog=_EXIT_CODES)
@_url_argument
@click.option(
    "--grant",
    metavar="ROLE",
    help="Allow a PostgreSQL role to use guards, but not to edit the journal or the budgets.",
)
@actor_option
def init_command(url: str, grant: str | None, actor: str) -> None:
    """Create a ledger at URL, or upgrade an existing ledger.

    You can safely repeat the command.

    \b
    Example:
      kling-pricing ledger init postgresql://admin@db/spend --grant guards
    """
    with errors_shown(as_json=False):
        echo(prepare(url, create=True, grant=grant, actor=actor))


@ledger.command("migrate", epilog=_EXIT_CODES)
@_url_argument
@actor_option
def migrate_command(url: str, actor: str) -> None:
    """Upgrade the ledger at URL for this kling-pricing version.

    Stop the guards first. If the ledger is a file, the command copies the file before changing it. You can
    safely repeat the command.

    \b
    Example:
      kling-pricing ledger migrate postgresql://admin@db/spend
    """
    with errors_shown(as_json=False):
        echo(prepare(url, create=False, actor=actor))


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


@ledger.command("recover", epilog=_RECOVER_EXIT_CODES)
@_url_argument
@click.option("--accept-loss", is_flag=True, help="Open the ledger without the missing entries, and freeze it.")
@click.option("--reason", metavar="TEXT", help="Reason for accepting the loss, for `budget log`.")
@actor_option
def recover_command(url: str, accept_loss: bool, reason: str | None, actor: str) -> None:
    """Show the journal entries that the ledger at URL has lost.

    A guard refuses a ledger whose newest journal entries are missing because its files were damaged or replaced
    with an older copy. The missing entries may include jobs that were already sent; without those entries, the
    same money could be spent again. If you can, restore the missing files.

    If you cannot, use --accept-loss, which opens the ledger without these entries and freezes all spending. Use
    `record` to add the jobs that the provider has billed since the newest remaining entry, and then run
    `budget thaw --all`.

    \b
    Example:
      kling-pricing ledger recover sqlite:///spend.db
    """
    if accept_loss != (reason is not None):
        raise click.UsageError("--accept-loss and --reason belong together; give both or neither")
    with errors_shown(as_json=False):
        loss = recover(url, accept_loss=accept_loss, actor=actor, reason=reason or "")
    at = "" if loss.newest_at is None else f", written at {loss.newest_at:%Y-%m-%d %H:%M:%S} UTC"
    echo(f"newest journal entry in the ledger: {loss.newest}{at}")
    echo(f"newest acknowledged journal entry: {loss.acknowledged}")
    for line in loss.damage:
        echo(f"damage: {line}")
    if not loss.missing:
        echo("no journal entry is missing" + ("" if not accept_loss else "; nothing was changed"))
    elif accept_loss:
        echo(f"the ledger is open; lost: {counted(loss.missing, 'journal entry', 'journal entries')}")
        echo("all spending is frozen; add the lost jobs with `record`, and then run `budget thaw --all`")
    else:
        echo(f"missing: {counted(loss.missing, 'journal entry', 'journal entries')}")
        sys.exit(REFUSED)
