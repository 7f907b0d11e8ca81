"""`kling-pricing budget`: checks, changes and shows budgets. Each module has the commands of one subject."""

from __future__ import annotations

import click

from kling_pricing.cli.budget.allowance_commands import (
    allow_command,
    allowances_command,
    ask_command,
    decline_command,
    revoke_command,
)
from kling_pricing.cli.budget.changes import apply_command, open_command, plan_command, set_command
from kling_pricing.cli.budget.check_and_schema import check_command, schema_command
from kling_pricing.cli.budget.freeze_commands import freeze_command, thaw_command
from kling_pricing.cli.budget.history import log_command, show_command
from kling_pricing.cli.budget.status import status_command
from kling_pricing.cli.groups import Group


@click.group("budget", cls=Group)
def budget() -> None:
    """Check, change and show budgets.

    \b
    Examples:
      kling-pricing budget check budgets.yaml
      kling-pricing budget plan budgets.yaml
      kling-pricing budget apply budgets.yaml
      kling-pricing budget status
    """


for command in (
    *(check_command, plan_command, apply_command, set_command, open_command),
    *(status_command, show_command, log_command),
    *(freeze_command, thaw_command),
    *(ask_command, allow_command, decline_command, allowances_command, revoke_command),
    schema_command,
):
    budget.add_command(command)
