"""`kling-pricing doctor`: checks the installation, the price tables and the ledger."""

from __future__ import annotations

import sys

import click

from kling_pricing.cli.doctor_checks import TABLES_VARIABLE, findings
from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.ledger_options import json_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.ledger.environment import LEDGER_VARIABLE

_MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@click.command(
    "doctor",
    epilog=exit_codes_help(done="nothing is wrong", refused="something is wrong", unreadable="bad usage"),
)
@click.option(
    "--ledger",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    help="Ledger to check, such as sqlite:///spend.db. Default: none.",
)
@click.option(
    "--tables",
    metavar="FOLDER",
    envvar=TABLES_VARIABLE,
    show_envvar=True,
    help="Folder with your own price tables, which are checked with the bundled ones.",
)
@json_option
def doctor_command(ledger: str | None, tables: str | None, as_json: bool) -> None:
    """Check the installation, the price tables and the ledger.

    The command shows the versions, the extras that are installed, the age of the prices, the cache, the time
    zone database, whether the ledger can be used and has the right schema, and whether the ledger's clock
    agrees with this machine's. It shows no secrets: it leaves out the values of environment variables, and the
    URL of a ledger on a server. It changes nothing in the ledger.

    \b
    Example:
      kling-pricing doctor --ledger sqlite:///spend.db
    """
    found = [*findings(ledger, tables)]
    is_wrong = any(finding.state == "wrong" for finding in found)
    if as_json:
        echo(to_json({"ok": not is_wrong, "findings": [finding._asdict() for finding in found]}))
    else:
        width = max(len(finding.name) for finding in found)
        for finding in found:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            echo(f"{_MARKS[finding.state]}  {finding.name:<{width}}  {finding.detail}{remedy}")
    sys.exit(REFUSED if is_wrong else DONE)
