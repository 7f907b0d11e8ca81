"""`kling-pricing budget`: checks, changes and shows budgets. Each module has the commands of one subject."""

from __future__ import annotations

import click

from kling_pricing.cli.budget.changes import apply_command, open_command
from kling_pricing.cli.budget.files import check_command, schema_command
from kling_pricing.cli.budget.freezes import freeze_command, thaw_command
from kling_pricing.cli.budget.history import log_command
from kling_pricing.cli.budget.status import status_command
from kling_pricing.cli.groups import Group


@click.group("budget", cls=Group)
def budget() -> None:
    """Check, install and show budgets.

    \b
    Examples:
      kling-pricing budget check budgets.yaml
      kling-pricing budget apply budgets.yaml
      kling-pricing budget status
    """


for command in (
    *(check_command, apply_command, open_command),
    *(status_command, log_command),
    *(freeze_command, thaw_command),
    schema_command,
):
    budget.add_command(command)
