"""`kling-pricing mcp`: offers the guard to an agent as tools."""

from __future__ import annotations

import logging

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import labels_option, ledger_option, opened_guard
from kling_pricing.cli.options import tables_option
from kling_pricing.ledger.redaction import checked_labels
from kling_pricing.tables.price_book import PriceBook


@click.command(
    "mcp",
    epilog=exit_codes_help(
        done="the agent has closed the connection", unreadable="bad usage, or a ledger that cannot be used"
    ),
)
@click.option("--project", required=True, help="Project that all jobs of the agent belong to.")
@labels_option
@ledger_option
@click.option("--read-only", is_flag=True, help="Offer only the tools that change nothing in the ledger.")
@tables_option
def mcp_command(project: str, labels: dict[str, str], ledger: str, read_only: bool, book: PriceBook) -> None:
    """Offer quotes and budgets to an agent, as MCP tools.

    An agent's program starts this command, and calls its tools through standard input and output. The agent
    can quote, check and compare jobs, see the budgets, and reserve the money for a job before it submits the
    job. It works for one project only, and no reservation exceeds a budget.

    The server offers the same tools at /mcp, to agents with an access key.

    \b
    Example, for the configuration of an agent's program:
      kling-pricing mcp --project trailer --ledger sqlite:////srv/spend.db
    """
    with errors_shown(as_json=False):
        checked_labels(project, labels)
        try:
            from kling_pricing.mcp_server.local_process import serve_locally  # noqa: PLC0415 (an extra)
        except ModuleNotFoundError as error:
            raise click.UsageError(str(error)) from None
    logging.getLogger("mcp").setLevel(logging.ERROR)  # an agent's program shows what it writes
    with opened_guard(ledger, book=book) as guard:
        guard.budgets()
        serve_locally(guard, project, labels, may_spend=not read_only)
