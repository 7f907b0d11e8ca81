"""The `kling-pricing` command and its groups."""

from __future__ import annotations

import click

from kling_pricing import __version__
from kling_pricing.cli.budgets import budget
from kling_pricing.cli.compare import compare_command
from kling_pricing.cli.in_doubt import in_doubt_command
from kling_pricing.cli.ledger import ledger
from kling_pricing.cli.reconcile import reconcile_command
from kling_pricing.cli.report import report_command
from kling_pricing.cli.requests import check_command, quote_command
from kling_pricing.cli.spending import (
    admit_command,
    bind_command,
    history_command,
    observe_command,
    record_command,
    release_command,
    resolve_command,
    settle_command,
    verify_command,
)
from kling_pricing.cli.tables import tables


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kling-pricing")
def app() -> None:
    """Know what a Kling video job will cost before you submit it, and keep it within budget.

    \b
    kling-pricing quote request.json            what it costs, and why
    kling-pricing check request.json            whether the API would accept it
    kling-pricing compare request.json          what the same job would cost otherwise
    kling-pricing tables list                   which prices are known

    \b
    kling-pricing budget status                 what each budget has left
    kling-pricing admit request.json            set its money aside, and print what to submit
    kling-pricing bind RESERVATION TASK_ID      note the task it became
    kling-pricing observe response.json         settle it by what the provider answers
    kling-pricing in-doubt                      what may be running, and nobody knows; --poll asks
    kling-pricing ledger init postgresql://...  make a ledger for many machines
    kling-pricing reconcile --statement FILE    was every clip billed right, and if not, why
    kling-pricing report --month 2026-11        what was spent, with a page, sheets and files

    Exit codes: 0 done; 1 refused or invalid; 2 bad usage or unreadable input.
    """


app.add_command(quote_command)
app.add_command(check_command)
app.add_command(compare_command)
app.add_command(tables)
app.add_command(budget)
app.add_command(ledger)
app.add_command(reconcile_command)
for command in (
    admit_command,
    bind_command,
    observe_command,
    settle_command,
    release_command,
    in_doubt_command,
    resolve_command,
    record_command,
    history_command,
    verify_command,
    report_command,
):
    app.add_command(command)
