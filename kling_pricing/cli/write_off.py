"""`kling-pricing write-off`: writes off the rest of a task that was charged too little."""

from __future__ import annotations

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import json_option, ledgers_option, task_id_argument
from kling_pricing.cli.options import known_provider, tables_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_book import PriceBook


@click.command("write-off", epilog=exit_codes_help(refused="refused; nothing changed"))
@task_id_argument
@ledgers_option
@click.option("--provider", required=True, callback=known_provider, help="Provider that charged the task.")
@click.option("--reason", metavar="TEXT", required=True, help="Reason to keep in the books.")
@click.option(
    "--actor", metavar="NAME", help="Your name for the books. Default: your user name on this system."
)
@tables_option
@json_option
def write_off_command(
    task_id: str,
    ledgers: tuple[str, ...],
    provider: str,
    reason: str,
    actor: str | None,
    book: PriceBook,  # noqa: ARG001 (which providers there are)
    as_json: bool,
) -> None:
    """Write off the amount that is still owed for TASK_ID.

    If a task is charged less than expected, the rest stays in the accrued liabilities, because the provider may
    still charge it. Write it off once you know that the provider will not. Amounts that were rounded down are
    written off automatically. The amount counts as a billing variance in the current month. The spend that
    budgets count does not change.

    \b
    Example:
      kling-pricing write-off task-2 --provider qingbo --reason "credit note 77"
    """
    from kling_pricing.reconcile import write_off  # noqa: PLC0415 (an extra, and slow to import)

    with errors_shown(as_json=as_json):
        written = write_off(ledgers, task_id, provider=provider, actor=actor, reason=reason)
    amount = format_decimal(written.amount)
    if as_json:
        echo(to_json(written._asdict() | {"amount": amount}))
    else:
        echo(f"wrote off {amount} {written.currency} of {task_id} in {written.month}: {written.reason}")
