"""The `kling-pricing` command and its groups."""

from __future__ import annotations

import click

from kling_pricing import __version__
from kling_pricing.cli.compare import compare_command
from kling_pricing.cli.requests import check_command, quote_command
from kling_pricing.cli.tables import tables


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kling-pricing")
def app() -> None:
    """Know what a Kling video job will cost before you submit it.

    \b
    kling-pricing quote request.json            what it costs, and why
    kling-pricing check request.json            whether the API would accept it
    kling-pricing compare request.json          what the same job would cost otherwise
    kling-pricing tables list                   which prices are known

    Exit codes: 0 done; 1 refused or invalid; 2 bad usage or unreadable input.
    """


app.add_command(quote_command)
app.add_command(check_command)
app.add_command(compare_command)
app.add_command(tables)
