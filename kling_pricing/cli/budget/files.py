"""`budget check` and `budget schema`: budgets files, without a ledger."""

from __future__ import annotations

import sys

import click

from kling_pricing.budgets import BudgetsFile, budgets_file_schema, load_budgets
from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.errors import BudgetError


@click.command("check", epilog=exit_codes_help("the file is valid", "the file is invalid"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def check_command(file: str) -> None:
    """Check the budgets in FILE.

    The command reports the first mistake with its line number.

    \b
    Example:
      kling-pricing budget check budgets.yaml
    """
    try:
        checked = load_budgets(file)
    except BudgetError as error:
        echo(str(error), err=True)
        sys.exit(REFUSED)
    echo(f"OK: {counted(len(checked.budgets), 'budget')} ({names(checked)})")


@click.command("schema", epilog=exit_codes_help())
def schema_command() -> None:
    """Print the JSON Schema of a budgets file.

    A text editor can use the schema to complete and check budgets files.

    \b
    Example:
      kling-pricing budget schema
    """
    echo(to_json(budgets_file_schema()))


def names(installed: BudgetsFile) -> str:
    """Returns the names of budgets, separated by commas."""
    return ", ".join(entry.name for entry in installed.budgets)
