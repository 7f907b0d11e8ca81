"""The `kling-pricing` command; each of its commands is imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from kling_pricing import __version__
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.groups import Group

_PLACES = {
    "quote": "quote_and_check:quote_command",
    "check": "quote_and_check:check_command",
    "compare": "compare:compare_command",
    "tables": "price_tables:tables",
    "budget": "budget:budget",
    "pre-submit": "spending:pre_submit_command",
    "bind": "spending:bind_command",
    "observe": "spending:observe_command",
    "settle": "spending:settle_command",
    "release": "spending:release_command",
    "in-doubt": "in_doubt:in_doubt_command",
    "resolve": "spending:resolve_command",
    "record": "spending:record_command",
    "history": "spending:history_command",
    "verify": "spending:verify_command",
    "ledger": "ledger:ledger",
    "reconcile": "reconcile:reconcile_command",
    "report": "report:report_command",
}
"""Command -> the module in this folder and the name in that module, in the order of a job's life."""


class _LazyGroup(Group):
    """Imports only the module of the command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        return [*_PLACES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module, _, name = _PLACES.get(cmd_name, "").partition(":")
        if not name:
            return None
        command: click.Command = getattr(import_module(f"kling_pricing.cli.{module}"), name)
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes_help(refused="refused or invalid, or a difference is found"),
)
@click.version_option(__version__, prog_name="kling-pricing")
def app() -> None:
    """Know what a Kling video job costs before you submit it, and keep it within budget.

    \b
    Prices, which need no setup:
      kling-pricing quote request.json
      kling-pricing check request.json
      kling-pricing compare request.json
      kling-pricing tables list

    \b
    Budgets, which need a ledger (--ledger, or the variable KLING_PRICING_LEDGER):
      export KLING_PRICING_LEDGER=sqlite:///spend.db
      kling-pricing budget apply budgets.yaml
      kling-pricing pre-submit request.json --project trailer
      kling-pricing observe response.json --provider qingbo
      kling-pricing budget status

    \b
    Bills:
      kling-pricing reconcile --statement november.csv --provider qingbo \\
          --from 2026-11-01 --until 2026-12-01
      kling-pricing report --month 2026-11

    Run `kling-pricing COMMAND --help` for the options of a command, with an example.
    """
