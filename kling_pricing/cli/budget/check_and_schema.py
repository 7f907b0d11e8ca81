"""`budget check` and `budget schema`: budgets files, without a ledger."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from kling_pricing.budgets import BudgetsFile, budgets_file_schema, load_budgets
from kling_pricing.budgets.checking import warnings_about
from kling_pricing.cli.budget.plan_text import PlanLine, print_lines
from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.ledger_options import json_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.errors import BudgetError


@click.command("check", epilog=exit_codes_help("the file is valid", "the file is invalid"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@json_option
def check_command(file: str, as_json: bool) -> None:
    """Check the budgets in FILE.

    The command reports every mistake with its line number. It also warns about budgets that can no
    longer match any request. If a budget counts each user (or each value of another label) separately, the
    command warns you if requests without the label can bypass the budget.

    \b
    Example:
      kling-pricing budget check budgets.yaml
    """
    try:
        checked = load_budgets(file)
    except BudgetError as error:
        if as_json:
            echo(to_json({"valid": False, "problems": [_problem(each) for each in error.problems]}))
        for problem in () if as_json else error.problems:
            echo(str(problem), err=True)
        sys.exit(REFUSED)
    warnings = warnings_about(checked, datetime.now(UTC))
    if as_json:
        echo(
            to_json({"valid": True, "budgets": [entry.name for entry in checked.budgets], "warnings": warnings})
        )
        return
    print_lines([PlanLine(f"warning: {warning}") for warning in warnings], err=True)
    echo(f"OK: {counted(len(checked.budgets), 'budget')} ({names(checked)})")


@click.command("schema", epilog=exit_codes_help())
def schema_command() -> None:
    """Print the JSON Schema of a budgets file.

    A text editor can use the schema for autocompletion and validation in budgets files.

    \b
    Example:
      kling-pricing budget schema
    """
    echo(to_json(budgets_file_schema()))


def _problem(error: BudgetError) -> dict[str, Any]:
    return {"line": error.line, "key_path": error.key_path, "message": str(error)}


def names(installed: BudgetsFile) -> str:
    """Returns the names of budgets, separated by commas."""
    return ", ".join(entry.name for entry in installed.budgets)
